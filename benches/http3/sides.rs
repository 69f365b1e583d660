//! The servers and the clients of an echo: HTTP/3 sessions, and streams of quinn.

use crate::support::{ServerProcess, not_found};
use quinn::{
    ClientConfig, Endpoint, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rcgen::{CertifiedKey, KeyPair};
use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::rustls::{
    self, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tower::{Layer as _, Service as _, service_fn};
use tower_upgrade::{BoxError, Session, UpgradeLayer, client, handler_fn, http3};

/// The maximum number of sessions on a connection: 1,000 idle ones, and those of the warm-up, since quinn returns their
/// credit in portions.
const SESSIONS: u32 = 1280;

/// The compared servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Bidirectional streams of quinn, which echo the received chunks without a copy.
    Quinn,
    /// The same with `tokio::io::copy`.
    Copy,
    /// `UpgradeLayer` over HTTP/3, and a handler that copies with `tower_upgrade::copy`.
    Http3,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Quinn, Self::Copy, Self::Http3];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quinn => "quinn",
            Self::Copy => "quinn, copy",
            Self::Http3 => "http3",
        }
    }
}

/// The server of one of the sides, with its certificate and key, parsed from three words.
pub(crate) struct Served {
    side: Side,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl FromStr for Served {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self, BoxError> {
        let mut words = text.split('/');
        let mut word = || words.next().ok_or("a missing word");
        let name = word()?;
        let side = Side::ALL.into_iter().find(|side| side.name() == name);
        Ok(Self {
            side: side.ok_or_else(|| format!("no such server: {name}"))?,
            certificate: from_hex(word()?)?.into(),
            key: PrivateKeyDer::try_from(from_hex(word()?)?)?,
        })
    }
}

impl Served {
    /// Serves on the UDP port with the number of the listener's port.
    pub(crate) async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let config = server_config(self.certificate, self.key).map_err(io::Error::other)?;
        let endpoint = Endpoint::server(config, listener.local_addr()?)?;
        let echo = handler_fn(|session: Session| async move {
            let (mut reader, mut writer) = tokio::io::split(session.into_io());
            tower_upgrade::copy(&mut reader, &mut writer).await?;
            Ok(())
        });
        let app = UpgradeLayer::new()
            .protocol("echo", echo)
            .layer(service_fn(async |_| {
                Ok::<_, std::convert::Infallible>(not_found())
            }));
        let builder = http3::Builder::new();
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await?;
            if self.side == Side::Http3 {
                tokio::spawn(builder.serve_connection(connection, app.clone()));
            } else {
                tokio::spawn(serve_streams(connection, self.side));
            }
        }
        Ok(())
    }
}

/// Echoes on each stream until the connection ends.
async fn serve_streams(connection: quinn::Connection, side: Side) -> Result<(), BoxError> {
    loop {
        let (mut send, mut recv) = connection.accept_bi().await?;
        tokio::spawn(async move {
            if side == Side::Copy {
                tokio::io::copy(&mut recv, &mut send).await?;
            } else {
                while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
                    send.write_chunk(chunk.bytes).await?;
                }
            }
            send.finish()?;
            Ok::<_, BoxError>(())
        });
    }
}

/// A connection to the server of a side.
pub(crate) struct Client {
    connection: quinn::Connection,
    http3: Option<client::Http3>,
    _endpoint: Endpoint,
}

/// The client side of a session or stream.
pub(crate) type Io = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Client {
    /// Starts the server in a separate process, and connects to it.
    pub(crate) async fn start(side: Side) -> Result<(ServerProcess, Self), BoxError> {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".into()])?;
        let certificate = cert.der().clone();
        let server = ServerProcess::start(&words(side, &certificate, &signing_key))?;
        let config = client_config(certificate)?;
        let client = Self::connect(side, server.address(), config).await?;
        Ok((server, client))
    }

    async fn connect(
        side: Side,
        server: SocketAddr,
        config: ClientConfig,
    ) -> Result<Self, BoxError> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let connecting = endpoint.connect_with(config, server, "localhost")?;
        let connection = connecting.await?;
        let http3 = match side {
            Side::Http3 => Some(client::Http3::handshake(connection.clone()).await?),
            Side::Quinn | Side::Copy => None,
        };
        Ok(Self {
            connection,
            http3,
            _endpoint: endpoint,
        })
    }

    /// Opens a session or a stream.
    pub(crate) async fn open(&self) -> Result<Io, BoxError> {
        match &self.http3 {
            Some(http3) => {
                let request = client::Request::get("https://localhost/".parse()?).protocol("echo");
                let mut client = client::UpgradeLayer::new().layer(http3.clone());
                Ok(Box::new(client.call(request).await?.into_io()))
            }
            None => {
                let (send, recv) = self.connection.open_bi().await?;
                Ok(Box::new(tokio::io::join(recv, send)))
            }
        }
    }
}

/// Sends a message, reads its echo into `answer`, and compares both.
pub(crate) async fn exchange(io: &mut Io, message: &[u8], answer: &mut [u8]) -> io::Result<()> {
    if message.len() <= 4096 {
        io.write_all(message).await?;
        io.read_exact(answer).await?;
    } else {
        // Read while writing: the windows of QUIC may be smaller than the message.
        let (mut reader, mut writer) = tokio::io::split(io);
        tokio::try_join!(writer.write_all(message), reader.read_exact(answer))?;
    }
    if answer == message {
        Ok(())
    } else {
        Err(io::Error::other("no echo"))
    }
}

/// Shuts down the write side, and waits for the end of the read side.
pub(crate) async fn close(mut io: Io) -> io::Result<()> {
    io.shutdown().await?;
    match io.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("more bytes than the echo")),
    }
}

/// The transport configuration for many sessions on a connection, as the documentation recommends.
fn transport() -> TransportConfig {
    let mut config = http3::transport_config();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(SESSIONS))
        .stream_receive_window(VarInt::from_u32(64 * 1024))
        .receive_window(VarInt::from_u32(80 * 1024 * 1024));
    config
}

fn server_config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, BoxError> {
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicServerConfig::try_from(tls)?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn client_config(certificate: CertificateDer<'static>) -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicClientConfig::try_from(tls)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// Returns the words of a [`Served`].
fn words(side: Side, certificate: &CertificateDer<'_>, key: &KeyPair) -> String {
    let mut words = format!("{}/", side.name());
    append_hex(&mut words, certificate);
    words.push('/');
    append_hex(&mut words, &key.serialize_der());
    words
}

fn append_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string grows");
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, BoxError> {
    let bytes = text.as_bytes().chunks(2).map(|digits| {
        let digits = std::str::from_utf8(digits)?;
        Ok(u8::from_str_radix(digits, 16)?)
    });
    bytes.collect()
}
