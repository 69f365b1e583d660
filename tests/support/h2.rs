//! An HTTP/2 client on the `h2` crate, without hyper.

use super::{Peer, soon};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client, ext::Protocol};
use http::{Method, Request, Response, Version, request};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinHandle,
};

/// One HTTP/2 connection.
pub struct Client {
    requests: client::SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub async fn connect<Io>(peer: Peer<Io>) -> Self
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::connect_with(peer, &client::Builder::new()).await
    }

    pub async fn connect_with<Io>(peer: Peer<Io>, builder: &client::Builder) -> Self
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (requests, connection) = soon(builder.handshake(peer.io)).await.expect("a handshake");
        let connection = tokio::spawn(connection);
        let mut client = Self {
            requests,
            connection,
        };
        soon(client.settings_arrive()).await;
        client
    }

    /// Waits for the server's settings, which arrive with its first frame.
    async fn settings_arrive(&mut self) {
        while !self.requests.is_extended_connect_protocol_enabled() {
            assert!(!self.connection.is_finished(), "the connection ended");
            tokio::task::yield_now().await;
        }
    }

    /// Sends a head and does not wait for the response.
    pub async fn send(
        &mut self,
        request: Request<()>,
    ) -> (client::ResponseFuture, SendStream<Bytes>) {
        let ready = poll_fn(|cx| self.requests.poll_ready(cx));
        soon(ready).await.expect("the connection goes on");
        self.requests
            .send_request(request, false)
            .expect("a valid head")
    }

    /// Sends a head and waits for the response.
    #[track_caller]
    pub fn ask(&mut self, request: Request<()>) -> impl Future<Output = Answer> {
        self.ask_with(request, "")
    }

    /// Sends a head and early bytes, and waits for the response.
    #[track_caller]
    pub fn ask_with(
        &mut self,
        request: Request<()>,
        early: &'static str,
    ) -> impl Future<Output = Answer> {
        soon(async move {
            let (response, mut send) = self.send(request).await;
            if !early.is_empty() {
                send.send_data(early.into(), false).expect("an open stream");
            }
            let (head, recv) = response.await.expect("a response").into_parts();
            Answer {
                head: Response::from_parts(head, ()),
                peer: Peer::new(Stream::new(send, recv)),
            }
        })
    }

    /// Sends a GET and returns the body of its response, to show that the connection still works.
    pub async fn get_text(&mut self, path: &str) -> String {
        let request = Request::get(format!("http://test{path}"))
            .version(Version::HTTP_2)
            .body(());
        let ready = poll_fn(|cx| self.requests.poll_ready(cx));
        soon(ready).await.expect("the connection goes on");
        let (response, _) = self
            .requests
            .send_request(request.expect("a request"), true)
            .expect("a valid head");
        let mut body = soon(response).await.expect("a response").into_body();
        let mut text = Vec::new();
        while let Some(data) = soon(body.data()).await {
            text.extend_from_slice(&data.expect("a body"));
        }
        super::text(&text)
    }

    /// Waits for the end of the connection and returns its result.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        soon(self.connection).await.expect("no panic")
    }
}

/// Returns the builder of an extended CONNECT request.
pub fn extended_connect(protocol: &str) -> request::Builder {
    Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri("http://test/path?query")
        .extension(Protocol::from(protocol))
}

/// Returns the builder of a plain CONNECT request.
pub fn connect(authority: &str) -> request::Builder {
    Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(authority)
}

/// A response head and the stream of its session.
pub struct Answer {
    pub head: Response<()>,
    pub peer: Peer<Stream>,
}

impl Answer {
    /// Expects 200 with an open stream and without the fields that an upgrade response must not have.
    #[track_caller]
    pub fn expect_upgraded(self) -> Peer<Stream> {
        assert_eq!(self.head.status(), 200, "{:?}", self.head);
        for name in [
            "upgrade",
            "connection",
            "content-length",
            "transfer-encoding",
        ] {
            assert_eq!(self.head.headers().get(name), None, "{:?}", self.head);
        }
        assert!(!self.peer.io.recv.is_end_stream(), "{:?}", self.head);
        self.peer
    }

    /// Reads the response to the end of its stream, and returns its status and body.
    pub async fn refused(mut self) -> (u16, String) {
        let body = self.peer.rest().await.expect("a body");
        (self.head.status().as_u16(), super::text(&body))
    }
}

/// The stream of a session as an IO.
pub struct Stream {
    pub send: SendStream<Bytes>,
    pub recv: RecvStream,
    unread: Bytes,
}

impl Stream {
    pub fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self {
            send,
            recv,
            unread: Bytes::new(),
        }
    }

    /// Waits until the peer resets this stream.
    pub async fn reset(&mut self) -> Reason {
        soon(poll_fn(|cx| self.send.poll_reset(cx)))
            .await
            .expect("a reset")
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                Some(data) => this.unread = data.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let data = this.unread.split_to(this.unread.len().min(buf.remaining()));
        buf.put_slice(&data);
        let released = this.recv.flow_control().release_capacity(data.len());
        Poll::Ready(released.map_err(io::Error::other))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(buf.len());
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(capacity) => drop(capacity.map_err(io::Error::other)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = self.send.capacity().min(buf.len());
        let data = Bytes::copy_from_slice(&buf[..length]);
        let sent = self.send.send_data(data, false);
        Poll::Ready(sent.map(|()| length).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.send.send_data(Bytes::new(), true);
        Poll::Ready(sent.map_err(io::Error::other))
    }
}
