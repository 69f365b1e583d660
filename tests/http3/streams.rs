//! Unidirectional streams.

use crate::{
    raw::{Client, DATA, HEADERS, frame, send_uni},
    server,
    support::soon,
};

/// A control stream with SETTINGS of this payload.
fn control(settings: &[u8]) -> Vec<u8> {
    [&[0][..], &frame(4, settings)].concat()
}

fn settings_and(bytes: &[u8]) -> Vec<u8> {
    [&control(&[])[..], bytes].concat()
}

#[tokio::test]
async fn e8_server_sends_its_settings_first() {
    let server = server().await;
    let connection = server.connect().await;
    let mut control = soon(connection.accept_uni()).await.expect("a stream");
    let mut bytes = [0; 11];
    soon(control.read_exact(&mut bytes))
        .await
        .expect("settings");
    // Control stream, SETTINGS, MAX_FIELD_SECTION_SIZE = 16384, ENABLE_CONNECT_PROTOCOL = 1, H3_DATAGRAM = 1.
    assert_eq!(bytes, [0, 4, 9, 6, 0x80, 0, 0x40, 0, 8, 1, 0x33]);
}

#[tokio::test]
async fn e8_violation_on_a_unidirectional_stream_closes_the_connection() {
    let server = server().await;
    for (case, bytes, code) in [
        ("no settings", [&[0][..], &frame(7, b"\0")].concat(), 0x10a),
        (
            "unknown before settings",
            [&[0][..], &frame(0x21, b"")].concat(),
            0x10a,
        ),
        ("two settings", settings_and(&frame(4, b"")), 0x105),
        ("data", settings_and(&frame(DATA as u8, b"")), 0x105),
        ("headers", settings_and(&frame(HEADERS as u8, b"")), 0x105),
        ("push promise", settings_and(&frame(5, b"")), 0x105),
        ("cancelled push", settings_and(&frame(3, b"\0")), 0x108),
        (
            "goaway rises",
            settings_and(&[frame(7, b"\0"), frame(7, b"\x04")].concat()),
            0x108,
        ),
        (
            "goaway of two numbers",
            settings_and(&frame(7, b"\0\0")),
            0x106,
        ),
        ("long frame", settings_and(&[7, 0x60, 0]), 0x107),
        ("http/2 setting", control(&[2, 0]), 0x109),
        ("same setting twice", control(&[6, 1, 6, 1]), 0x109),
        ("flag of 2", control(&[8, 2]), 0x109),
        ("truncated setting", control(&[6]), 0x106),
        ("push stream", vec![1, 0], 0x103),
        ("insert into the table", [&[2][..], &[0x43]].concat(), 0x201),
        ("capacity of 1", [&[2][..], &[0x21]].concat(), 0x201),
    ] {
        let client = Client::with_control(&server, &bytes).await;
        assert_eq!(client.closed().await, code, "{case}");
    }
}

#[tokio::test]
async fn e8_second_critical_stream_closes_the_connection() {
    let server = server().await;
    for kind in [0, 2, 3] {
        let client = Client::connect(&server).await;
        let _one = send_uni(&client.connection, &[kind]).await;
        let _two = send_uni(&client.connection, &[kind]).await;
        assert_eq!(client.closed().await, 0x103, "{kind}");
    }
}

#[tokio::test]
async fn e8_end_of_a_critical_stream_closes_the_connection() {
    let server = server().await;
    for is_reset in [false, true] {
        let mut client = Client::connect(&server).await;
        client.expect_alive().await;
        if is_reset {
            client.control.reset(0u32.into()).expect("an open stream");
        } else {
            client.control.finish().expect("an open stream");
        }
        assert_eq!(client.closed().await, 0x104);
    }
    for kind in [2, 3] {
        let client = Client::connect(&server).await;
        let mut stream = send_uni(&client.connection, &[kind]).await;
        stream.finish().expect("an open stream");
        assert_eq!(client.closed().await, 0x104, "{kind}");
    }
}

#[tokio::test]
async fn e8_unknown_streams_frames_and_settings_are_ignored() {
    let server = server().await;
    let settings = [0x21, 5, 0x40, 0x40, 7, 1, 0x80];
    let bytes = [
        &control(&settings[..5])[..],
        &frame(0x21, b"x"),
        &frame(0xd, b"\x05"),
    ]
    .concat();
    let client = Client::with_control(&server, &bytes).await;
    let unknown = send_uni(&client.connection, &[0x21, 1, 2, 3]).await;
    let stopped = soon(unknown.stopped()).await.expect("a connection");
    assert_eq!(stopped.map(|code| code.into_inner()), Some(0x103));
    // Streams that end before their type.
    let mut empty = client.connection.open_uni().await.expect("a stream");
    empty.finish().expect("an open stream");
    let mut reset = send_uni(&client.connection, &[0x40]).await;
    reset.reset(0u32.into()).expect("an open stream");
    // The encoder may set the capacity to the allowed 0.
    let _encoder = send_uni(&client.connection, &[2, 0x20]).await;
    let _decoder = send_uni(&client.connection, &[3, 0x40]).await;
    client.expect_alive().await;
}

#[cfg(feature = "datagram")]
#[tokio::test]
async fn d1_datagram_without_a_stream_id_closes_the_connection() {
    let server = server().await;
    for bytes in [&b""[..], b"\x40", b"\xd0\0\0\0\0\0\0\0"] {
        let client = Client::connect(&server).await;
        client.expect_alive().await;
        // For a stream that does not exist: dropped.
        client
            .connection
            .send_datagram(vec![9, 1].into())
            .expect("datagrams");
        client.expect_alive().await;
        client
            .connection
            .send_datagram(bytes.to_vec().into())
            .expect("datagrams");
        assert_eq!(client.closed().await, 0x33, "{bytes:?}");
    }
}
