//! A server and a client of HTTP/3, over loopback.

use super::soon;
use http::{Request, Response};
use http_body::Body;
use quinn::{
    ClientConfig, Connection, Endpoint, ServerConfig, TransportConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::{
    self, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tower::Service;
use tower_upgrade::{BoxError, http3};

pub struct Server {
    pub address: SocketAddr,
    pub endpoint: Endpoint,
    config: ServerConfig,
    client: ClientConfig,
    accepting: JoinHandle<()>,
}

impl Server {
    pub async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<http3::Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Self::start_with(http3::Builder::new(), http3::transport_config(), service)
    }

    pub fn start_with<S, B>(builder: http3::Builder, transport: TransportConfig, service: S) -> Self
    where
        S: Service<Request<http3::Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let certified = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a name");
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
        let config = server_config(certificate.clone(), key, transport);
        let endpoint = endpoint(config.clone());
        let address = endpoint.local_addr().expect("bound");
        let accepting = tokio::spawn({
            let mut listener = http3::Listener::new(endpoint.clone());
            async move {
                while let Some(connection) = listener.accept().await {
                    // Tests check the end of a connection from the client side.
                    tokio::spawn(builder.serve_connection(connection, service.clone()));
                }
            }
        });
        Self {
            address,
            endpoint,
            config,
            client: client_config(certificate),
            accepting,
        }
    }

    /// Opens a connection, and trusts the server's certificate.
    pub async fn connect(&self) -> Connection {
        self.connect_to(self.address).await
    }

    async fn connect_to(&self, address: SocketAddr) -> Connection {
        let client = Endpoint::client("127.0.0.1:0".parse().expect("an address"));
        let connecting = client
            .expect("a socket")
            .connect_with(self.client_config(), address, "localhost")
            .expect("a configuration");
        soon(connecting).await.expect("a handshake")
    }

    /// A configuration that trusts the server's certificate. Its clones share tickets.
    pub fn client_config(&self) -> ClientConfig {
        self.client.clone()
    }

    /// Another endpoint with the same certificate. The test serves its connections.
    pub fn another_endpoint(&self) -> Endpoint {
        endpoint(self.config.clone())
    }

    /// The server's and the client's side of a connection that the test serves.
    pub async fn pair(&self) -> (Connection, Connection) {
        let endpoint = self.another_endpoint();
        let address = endpoint.local_addr().expect("bound");
        let accept = async {
            let incoming = endpoint.accept().await.expect("a client");
            incoming.await.expect("a handshake")
        };
        soon(async { tokio::join!(accept, self.connect_to(address)) }).await
    }

    pub async fn client(&self) -> tower_upgrade::client::Http3 {
        let handshake = tower_upgrade::client::Http3::handshake(self.connect().await);
        soon(handshake).await.expect("settings")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A server's endpoint on loopback.
pub fn endpoint(config: ServerConfig) -> Endpoint {
    Endpoint::server(config, "127.0.0.1:0".parse().expect("an address")).expect("a socket")
}

pub fn server_config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    transport: TransportConfig,
) -> ServerConfig {
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the key of the certificate");
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.max_early_data_size = u32::MAX;
    let tls = QuicServerConfig::try_from(tls).expect("TLS 1.3");
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

pub fn client_config(certificate: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let mut tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.enable_early_data = true;
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(http3::transport_config()));
    config
}
