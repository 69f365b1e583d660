//! gRPC through the proxy: Python's library as the client and as the server.

use super::{proxy, script};
use crate::process::{Script, program};
use tokio::process::Command;

fn python(name: &str) -> Command {
    let mut python = program("/usr/bin/python3", "python3-grpcio");
    python.arg(script(name));
    python
}

/// `grpc-status` is in the trailers, or in the head of a response without messages.
#[tokio::test]
async fn grpc_calls_end_with_the_status_of_the_server() {
    let mut server = Script::start(&mut python("grpc_server.py")).await;
    let proxy = proxy(&server.url, &["--http2"]).await;
    let mut client = Script::spawn(python("grpc_client.py").arg(proxy.address()));
    for case in [
        "unary",
        "server_streaming",
        "client_streaming",
        "bidirectional_streaming",
        "error_without_messages",
        "error_after_a_message",
        "cancel",
    ] {
        assert_eq!(client.next_line().await.as_deref(), Some(case));
    }
    let line = server.next_line().await;
    assert_eq!(
        line.as_deref(),
        Some("cancelled call ended, deadline: False")
    );
    assert_eq!(client.next_line().await.as_deref(), Some("deadline"));
    let line = server.next_line().await;
    assert_eq!(line.as_deref(), Some("late call ended, deadline: True"));
}
