//! The compared proxies: the crate's tunnels and others.

use crate::support::{not_found, serve};
use http::StatusCode;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest,
    tunnel::{self, Relay},
};

/// The compared proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// `tokio::io::copy_bidirectional`.
    Copy,
    /// The crate's relay, between connections of a type that hides their sockets.
    Pooled,
    /// The crate's relay, between sockets.
    Splice,
    /// The crate's relay in a session: CONNECT, with hyper and `UpgradeLayer`.
    Connect,
    Haproxy,
    /// With `option splice-auto`.
    HaproxySplice,
    Nginx,
    /// With `proxy_buffer_size 64k`.
    Nginx64,
    /// No proxy. The CPU time is that of both ends.
    Direct,
}

impl Side {
    /// All sides. Ratios are relative to the first.
    pub(crate) const ALL: [Self; 9] = [
        Self::Copy,
        Self::Pooled,
        Self::Splice,
        Self::Connect,
        Self::Haproxy,
        Self::HaproxySplice,
        Self::Nginx,
        Self::Nginx64,
        Self::Direct,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Pooled => "pooled",
            Self::Splice => "splice",
            Self::Connect => "connect",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy-splice",
            Self::Nginx => "nginx",
            Self::Nginx64 => "nginx-64k",
            Self::Direct => "direct",
        }
    }
}

/// The server of one of the sides, parsed from an argument such as `splice@127.0.0.1:4321`.
pub(crate) struct Served {
    pub(crate) side: Side,
    /// The target of all tunnels.
    pub(crate) upstream: SocketAddr,
}

impl Served {
    pub(crate) async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let upstream = self.upstream;
        match self.side {
            Side::Copy => tunnels(listener, upstream, copy_bidirectional).await,
            Side::Pooled => {
                let join = |a, b| relay(Opaque(a), Opaque(b));
                tunnels(listener, upstream, join).await
            }
            Side::Splice => tunnels(listener, upstream, relay).await,
            Side::Connect => {
                let layer = UpgradeLayer::new().connect(Dial);
                serve(listener, layer.layer(service_fn(async |_| Ok(not_found())))).await
            }
            Side::Haproxy | Side::HaproxySplice | Side::Nginx | Side::Nginx64 | Side::Direct => {
                Err(io::Error::other("not a server of this benchmark"))
            }
        }
    }
}

impl FromStr for Served {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self, BoxError> {
        let (name, upstream) = text.split_once('@').ok_or("no upstream")?;
        let side = Side::ALL.into_iter().find(|side| side.name() == name);
        Ok(Self {
            side: side.ok_or_else(|| format!("no such server: {name}"))?,
            upstream: upstream.parse()?,
        })
    }
}

/// Joins each accepted connection with a new connection to the upstream.
async fn tunnels<F, Fut>(listener: TcpListener, upstream: SocketAddr, join: F) -> io::Result<()>
where
    F: Fn(TcpStream, TcpStream) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send,
{
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        tokio::spawn(async move {
            let server = TcpStream::connect(upstream).await?;
            server.set_nodelay(true)?;
            join(client, server).await
        });
    }
}

async fn copy_bidirectional(mut a: TcpStream, mut b: TcpStream) -> Result<(), BoxError> {
    tokio::io::copy_bidirectional(&mut a, &mut b).await?;
    Ok(())
}

/// A minimal CONNECT proxy, without a policy or limits.
struct Dial;

impl ProtocolHandler for Dial {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let bad_gateway = |error: io::Error| {
            Rejection::new(StatusCode::BAD_GATEWAY, "no connection").with_source(error)
        };
        let upstream = request.authority()?;
        let upstream = TcpStream::connect(upstream.as_str())
            .await
            .map_err(bad_gateway)?;
        upstream.set_nodelay(true).map_err(bad_gateway)?;
        Ok(Accept::new(move |session: Session| {
            tunnel::relay(session, upstream)
        }))
    }
}

/// A connection of a type that hides its socket.
struct Opaque(TcpStream);

impl AsyncRead for Opaque {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Opaque {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Runs the crate's relay between two connections.
async fn relay<A, B>(a: A, b: B) -> Result<(), BoxError>
where
    A: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Relay::new(a, b).await.into_result()?;
    Ok(())
}
