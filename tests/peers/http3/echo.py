"""Extended CONNECT and CONNECT to the example `echo` over HTTP/3.

    echo.py PROGRAM     starts the example, and prints a line for each case that has passed
"""

import asyncio
import os
import sys

from aioquic.h3.connection import Setting
from client import *


async def plain_requests(client):
    stream = client.request("GET", end=True)
    assert await stream.status() == 200
    assert b"Upgrade: echo" in await stream.read_to_end()
    assert client.http.received_settings[Setting.ENABLE_CONNECT_PROTOCOL] == 1
    stream = client.request("GET", "/none", end=True)
    assert await stream.status() == 404
    await stream.read_to_end()


async def echoes(stream, length):
    """Sends the data and FIN, and expects both back."""
    data = os.urandom(length)
    await stream.accepted()
    # The answer to a few bytes does not wait for FIN.
    stream.send(b"ping")
    assert await stream.read(4) == b"ping"
    stream.send(data, end=True)
    assert await stream.read_to_end() == data


async def extended_connect(client):
    for length in [0, 1, 1_000_000]:
        await echoes(client.extended_connect("echo"), length)
    stream = client.extended_connect("ECHO")
    assert "upgrade" not in (await stream.accepted()).headers
    assert "content-length" not in stream.headers
    stream.send(b"", end=True)
    assert await stream.read_to_end() == b""


async def connect(client):
    for length in [0, 1, 1_000_000]:
        await echoes(client.connect_to("example.com:443"), length)


async def unknown_protocols_get_501(client):
    for protocol in ["other", "websocket", "connect-udp", "webtransport", "connect-ip"]:
        stream = client.extended_connect(protocol)
        assert await stream.status() == 501, protocol
        await stream.read_to_end()
    await echoes(client.extended_connect("echo"), 1)


async def resets_have_a_code(client):
    other = await client.extended_connect("echo").accepted()
    for open, code in [
        (lambda: client.extended_connect("echo"), REQUEST_CANCELLED),
        (lambda: client.connect_to("example.com:443"), CONNECT_ERROR),
    ]:
        stream = await open().accepted()
        stream.send(b"ping")
        assert await stream.read(4) == b"ping"
        stream.reset()
        assert await stream.was_reset() == code

        # The client no longer receives, and still sends.
        stream = await open().accepted()
        stream.stop()
        stream.send(b"ping")
        await stream.was_reset()
        assert await stream.was_stopped() == code
    # Neither ends the connection or the other session.
    await echoes(other, 10_000)


async def an_early_end_of_the_client(client):
    """Data and FIN arrive with the request."""
    stream = client.extended_connect("echo")
    stream.send(b"early", end=True)
    await stream.accepted()
    assert await stream.read_to_end() == b"early"
    stream = client.connect_to("example.com:443")
    stream.send(b"", end=True)
    await stream.accepted()
    assert await stream.read_to_end() == b""


async def parallel_sessions(client):
    # A reset session does not end its neighbours.
    cancelled = [await client.extended_connect("echo").accepted() for _ in range(5)]
    streams = [client.extended_connect("echo") for _ in range(45)]
    streams += [client.connect_to("example.com:443") for _ in range(45)]
    running = asyncio.gather(*(echoes(stream, 20_000) for stream in streams))
    for stream in cancelled:
        stream.reset()
    await running
    for stream in cancelled:
        assert await stream.was_reset() == REQUEST_CANCELLED


async def loss_and_reordering(port):
    async with lossy(port, seed=1) as (hop, hops), connected(hop) as client:
        streams = [client.extended_connect("echo") for _ in range(10)]
        streams += [client.connect_to("example.com:443") for _ in range(10)]
        await asyncio.gather(*(echoes(stream, 50_000) for stream in streams))
        assert all(hop.dropped > 10 and hop.swapped > 10 for hop in hops)
        await close_without_loss(client, hops)


async def shutdown_ends_sessions(program):
    async with example(program) as server, connected(server.port) as client:
        stream = client.extended_connect("echo")
        await stream.accepted()
        stream.send(b"ping")
        assert await stream.read(4) == b"ping"
        server.terminate()
        # The handler shuts down its direction at the stop signal.
        assert await stream.read_to_end() == b""
        stream.send(b"", end=True)
        assert await client.closed() == NO_ERROR
        # The first one permits requests that are on their way, the second one names those that were served.
        assert client.goaways() == [2**62 - 4, 4], client.goaways()
        await server.ended()


async def main(program):
    async with example(program) as server:
        async with connected(server.port) as client:
            for case in [
                plain_requests,
                extended_connect,
                connect,
                unknown_protocols_get_501,
                resets_have_a_code,
                an_early_end_of_the_client,
                parallel_sessions,
            ]:
                await passes(case, client)
        await passes(loss_and_reordering, server.port)
    await passes(shutdown_ends_sessions, program)


asyncio.run(main(sys.argv[1]))
