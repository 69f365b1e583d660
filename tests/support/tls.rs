//! TLS with a self-signed certificate.

use super::Peer;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{PrivateKeyDer, ServerName},
    },
};

/// A TLS acceptor and a client configuration that trusts its certificate.
pub struct Tls {
    pub acceptor: TlsAcceptor,
    client: ClientConfig,
}

impl Tls {
    pub fn new() -> Self {
        Self::with_alpn(&[])
    }

    /// Both sides offer these ALPN protocols, and negotiate the first.
    pub fn with_alpn(protocols: &[&str]) -> Self {
        let alpn: Vec<Vec<u8>> = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        let certified = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a name");
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
        let mut server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("the key of the certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        server.alpn_protocols.clone_from(&alpn);
        client.alpn_protocols = alpn;
        Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            client,
        }
    }

    pub async fn connect<Io>(&self, peer: Peer<Io>) -> Peer<TlsStream<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(self.client.clone()));
        let io = connector.connect(name, peer.io).await;
        Peer::new(io.expect("a handshake"))
    }

    /// Returns the client configuration without ALPN, for clients that set it themselves.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = self.client.clone();
        config.alpn_protocols.clear();
        config
    }
}
