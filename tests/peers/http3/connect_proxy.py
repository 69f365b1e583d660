"""CONNECT and CONNECT-UDP through the example `connect_proxy` over HTTP/3, to targets in this process.

    connect_proxy.py PROGRAM    starts the example, and prints a line for each case that has passed
"""

import asyncio
import contextlib
import os
import socket
import struct
import sys

from aioquic.h3.connection import Setting
from client import *


class Targets:
    """A target for TCP, whose connections the cases use, and an echo for UDP."""

    @classmethod
    async def start(cls):
        self = cls()
        self.accepted = asyncio.Queue()
        self.server = await asyncio.start_server(
            lambda reader, writer: self.accepted.put_nowait((reader, writer)), "127.0.0.1", 0
        )
        self.tcp = self.server.sockets[0].getsockname()[1]
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        self.udp = udp.getsockname()[1]
        self.echoing = asyncio.create_task(echo_udp(udp))
        self.closed = socket.socket()
        # Bound, and not listening: connections are refused.
        self.closed.bind(("127.0.0.1", 0))
        self.refusing = self.closed.getsockname()[1]
        return self

    async def tunnel(self, client):
        """Opens a tunnel. Returns its stream, and the reader and the writer of the target."""
        stream = client.connect_to(f"127.0.0.1:{self.tcp}")
        reader, writer = await soon(self.accepted.get())
        return await stream.accepted(), reader, writer

    async def udp_session(self, client):
        path = f"/.well-known/masque/udp/127.0.0.1/{self.udp}/"
        stream = client.extended_connect("connect-udp", path, [("capsule-protocol", "?1")])
        await stream.accepted()
        assert stream.headers["capsule-protocol"] == "?1", stream.headers
        return stream


async def echo_udp(udp):
    loop = asyncio.get_running_loop()
    while True:
        # asyncio's own transport sends no empty payload.
        payload, source = await loop.sock_recvfrom(udp, 65536)
        await loop.sock_sendto(udp, payload, source)


def break_off(writer):
    """Resets a TCP connection."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def client_ends_first(client, targets):
    stream, reader, writer = await targets.tunnel(client)
    data = os.urandom(1_000_000)
    stream.send(data, end=True)
    assert await soon(reader.read(-1)) == data
    # The other direction is still open.
    writer.write(data)
    writer.write_eof()
    assert await stream.read_to_end() == data


async def target_ends_first(client, targets):
    stream, reader, writer = await targets.tunnel(client)
    writer.write(b"bye")
    writer.write_eof()
    assert await stream.read_to_end() == b"bye"
    data = os.urandom(1_000_000)
    stream.send(data, end=True)
    assert await soon(reader.read(-1)) == data
    writer.close()


async def reset_of_the_target_is_connect_error(client, targets):
    stream, _, writer = await targets.tunnel(client)
    break_off(writer)
    assert await stream.was_reset() == CONNECT_ERROR
    assert await stream.was_stopped() == CONNECT_ERROR


async def reset_of_the_client_resets_the_target(client, targets):
    stream, reader, _ = await targets.tunnel(client)
    stream.send(b"hello")
    assert await soon(reader.readexactly(5)) == b"hello"
    stream.reset()
    try:
        read = await soon(reader.read(-1))
        raise AssertionError(f"an abort looks like an end after {read}")
    except ConnectionResetError:
        pass
    assert await stream.was_reset() == CONNECT_ERROR


async def refusals(client, targets):
    for target, expected in [
        (f"127.0.0.1:{targets.refusing}", 502),
        ("127.0.0.1:9", 403),
        ("example.com:0", 400),
    ]:
        stream = client.connect_to(target)
        assert await stream.status() == expected, target
        await stream.read_to_end()
    stream = client.extended_connect("other")
    assert await stream.status() == 501
    stream = client.extended_connect("connect-udp", "/.well-known/masque/udp/127.0.0.1/9/")
    assert await stream.status() == 403
    stream = client.extended_connect("connect-udp", "/elsewhere")
    assert await stream.status() == 400
    stream = client.request("GET", end=True)
    # HTTP/3 has no 426.
    assert await stream.status() == 400
    await stream.read_to_end()


async def udp_uses_quic_datagrams(client, targets):
    assert client.http.received_settings[Setting.H3_DATAGRAM] == 1
    stream = await targets.udp_session(client)
    for length in [0, 1, 100, 1000]:
        payload = os.urandom(length)
        stream.send_datagram(payload)
        assert await stream.datagram() == b"\0" + payload
    # Another context is dropped without an error.
    client.http.send_datagram(stream.number, b"\2other")
    stream.send_datagram(b"behind")
    assert await stream.datagram() == b"\0behind"
    # A capsule on the stream works as well (RFC 9297, section 3.5), and its answer is a QUIC datagram.
    stream.send(b"\0\5\0data")
    assert await stream.datagram() == b"\0data"
    stream.send(b"", end=True)
    assert await stream.read_to_end() == b""


async def udp_sessions_end_in_both_ways(client, targets):
    stream = await targets.udp_session(client)
    stream.reset()
    assert await stream.was_reset() == REQUEST_CANCELLED
    # A capsule that the end cuts off is malformed.
    stream = await targets.udp_session(client)
    stream.send(b"\0\5\0", end=True)
    assert await stream.was_reset() == REQUEST_CANCELLED


async def tunnel_echoes(client, targets, length):
    """Data in both directions at once, through a tunnel and a target that echoes."""
    stream, reader, writer = await targets.tunnel(client)

    async def echo():
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    echoing = asyncio.create_task(echo())
    data = os.urandom(length)
    stream.send(data, end=True)
    assert await stream.read_to_end() == data
    await soon(echoing)


async def udp_echoes(client, targets, count):
    stream = await targets.udp_session(client)
    for number in range(count):
        payload = f"{stream.number} {number}".encode()
        received = None
        while received != b"\0" + payload:
            # Datagrams may be lost, and an answer may come after the next attempt.
            stream.send_datagram(payload)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    received = await stream.datagram()
            assert received is None or received.startswith(f"\0{stream.number} ".encode()), received
    stream.send(b"", end=True)
    assert await stream.read_to_end() == b""


async def parallel_sessions(client, targets):
    tunnels = [tunnel_echoes(client, targets, 30_000) for _ in range(40)]
    await asyncio.gather(*tunnels, *(udp_echoes(client, targets, 20) for _ in range(40)))


async def loss_and_reordering(port, targets):
    async with lossy(port, seed=2) as (hop, hops), connected(hop) as client:
        udp = await targets.udp_session(client)
        sent = {b"\0%d" % number for number in range(200)}

        async def send_datagrams():
            for payload in sorted(sent):
                udp.send_datagram(payload[1:])
                await asyncio.sleep(0.002)

        tunnels = [tunnel_echoes(client, targets, 100_000) for _ in range(10)]
        await asyncio.gather(send_datagrams(), *tunnels)
        assert all(hop.dropped > 10 and hop.swapped > 10 for hop in hops)
        await close_without_loss(client, hops)
        # Datagrams may be lost. None is doubled, and all belong to the session.
        received = [udp.datagrams.get_nowait() for _ in range(udp.datagrams.qsize())]
        assert len(received) == len(set(received)) and set(received) <= sent, received
        assert len(received) > 20, len(received)


async def shutdown_waits_for_tunnels(program, targets):
    async with example(program, "--allow", f"127.0.0.1:{targets.tcp}", "--allow", "127.0.0.0/8") as proxy:
        async with connected(proxy.port) as client:
            stream, reader, writer = await targets.tunnel(client)
            stream.send(b"before")
            assert await soon(reader.readexactly(6)) == b"before"
            proxy.terminate()
            while client.goaways() != [2**62 - 4, 4]:
                await asyncio.sleep(0.01)
            rejected = client.connect_to(f"127.0.0.1:{targets.tcp}")
            assert await rejected.was_reset() == REQUEST_REJECTED
            # The open tunnel still transfers everything.
            data = os.urandom(300_000)
            stream.send(data, end=True)
            assert await soon(reader.read(-1)) == data
            writer.write(data)
            writer.write_eof()
            assert await stream.read_to_end() == data
            assert await client.closed() == NO_ERROR
        await proxy.ended()


async def main(program):
    targets = await Targets.start()
    allowed = [targets.tcp, targets.udp, targets.refusing]
    allow = [arg for port in allowed for arg in ("--allow", f"127.0.0.1:{port}")]
    async with example(program, "--udp", *allow, "--allow", "127.0.0.0/8") as proxy:
        async with connected(proxy.port) as client:
            for case in [
                client_ends_first,
                target_ends_first,
                reset_of_the_target_is_connect_error,
                reset_of_the_client_resets_the_target,
                refusals,
                udp_uses_quic_datagrams,
                udp_sessions_end_in_both_ways,
                parallel_sessions,
            ]:
                await passes(case, client, targets)
        await passes(loss_and_reordering, proxy.port, targets)
    await passes(shutdown_waits_for_tunnels, program, targets)


asyncio.run(main(sys.argv[1]))
