"""QUIC with aioquic, through a UDP proxy.

    quic.py server                      prints its port; echoes streams and datagrams
    quic.py client PORT PROXY_PORT      connects through the proxy with a raw HTTP/1.1 request
    quic.py client PORT COMMAND...      connects through a command that takes length-prefixed payloads, such as upcat

The client prints a line for each case that has passed.
"""

import asyncio
import datetime
import hashlib
import os
import ssl
import struct
import sys
import tempfile

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import DatagramFrameReceived, StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIZE = 2_000_000


def configuration(is_client):
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["echo"],
        max_datagram_frame_size=65536,
        verify_mode=ssl.CERT_NONE,
    )


class Echo(QuicConnectionProtocol):
    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self._quic.send_stream_data(event.stream_id, event.data, event.end_stream)
        elif isinstance(event, DatagramFrameReceived):
            self._quic.send_datagram_frame(event.data)


def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


async def run_server():
    config = configuration(False)
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate())
        file.flush()
        config.load_cert_chain(file.name, file.name)
    server = await serve("127.0.0.1", 0, configuration=config, create_protocol=Echo)
    print(server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


class Client(QuicConnectionProtocol):
    def __init__(self, *args):
        super().__init__(*args)
        self.stream = hashlib.sha256()
        self.received = 0
        self.ended = asyncio.Event()
        self.datagrams = asyncio.Queue()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.stream.update(event.data)
            self.received += len(event.data)
            if event.end_stream:
                self.ended.set()
        elif isinstance(event, DatagramFrameReceived):
            self.datagrams.put_nowait(event.data)


def varint(value):
    """RFC 9000, section 16."""
    if value < 1 << 6:
        return struct.pack(">B", value)
    if value < 1 << 14:
        return struct.pack(">H", value | 1 << 14)
    return struct.pack(">I", value | 2 << 30)


async def read_varint(reader):
    first = (await reader.readexactly(1))[0]
    rest = await reader.readexactly((1 << (first >> 6)) - 1)
    return int.from_bytes(bytes([first & 0x3F]) + rest, "big")


class Transport(asyncio.DatagramTransport):
    """Sends datagrams as capsules (RFC 9297), or after their length."""

    def __init__(self, reader, writer, has_capsules):
        super().__init__()
        self.reader, self.writer, self.has_capsules = reader, writer, has_capsules

    def sendto(self, data, addr=None):
        if self.has_capsules:
            self.writer.write(varint(0) + varint(1 + len(data)) + varint(0) + data)
        else:
            self.writer.write(struct.pack(">H", len(data)) + data)

    async def receive(self):
        if not self.has_capsules:
            (length,) = struct.unpack(">H", await self.reader.readexactly(2))
            return await self.reader.readexactly(length)
        kind = await read_varint(self.reader)
        value = await self.reader.readexactly(await read_varint(self.reader))
        assert kind == 0 and value[0] == 0, (kind, value[:1])
        return value[1:]

    async def run(self, protocol, address):
        while True:
            protocol.datagram_received(await self.receive(), address)


async def connect(port, path):
    """Returns the two directions of a stream to the target, and whether it has capsules."""
    if len(path) > 1:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*path, stdin=pipe, stdout=pipe)
        return process.stdout, process.stdin, False
    reader, writer = await asyncio.open_connection("127.0.0.1", int(path[0]))
    request = (
        f"GET /.well-known/masque/udp/127.0.0.1/{port}/ HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{path[0]}\r\n"
        "Connection: Upgrade\r\n"
        "Upgrade: connect-udp\r\n"
        "Capsule-Protocol: ?1\r\n\r\n"
    )
    writer.write(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith("http/1.1 101 "), head
    assert "\r\ncapsule-protocol: ?1\r\n" in head, head
    return reader, writer, True


async def run_client(port, path):
    transport = Transport(*await connect(port, path))
    config = configuration(True)
    config.server_name = "localhost"
    protocol = Client(QuicConnection(configuration=config))
    protocol.connection_made(transport)
    address = ("127.0.0.1", port)
    receiving = asyncio.create_task(transport.run(protocol, address))
    protocol.connect(address)
    await protocol.wait_connected()
    print("handshake", flush=True)

    data = os.urandom(SIZE)
    stream = protocol._quic.get_next_available_stream_id()
    protocol._quic.send_stream_data(stream, data, True)
    protocol.transmit()
    await protocol.ended.wait()
    assert protocol.received == SIZE
    assert protocol.stream.digest() == hashlib.sha256(data).digest()
    print("stream", flush=True)

    for length in [1, 100, 1000]:
        sent = os.urandom(length)
        protocol._quic.send_datagram_frame(sent)
        protocol.transmit()
        assert await protocol.datagrams.get() == sent
    print("datagrams", flush=True)
    receiving.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(run_server())
    else:
        asyncio.run(run_client(int(sys.argv[2]), sys.argv[3:]))
