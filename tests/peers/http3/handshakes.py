"""Handshakes of QUIC that clients of HTTP/3 rarely do.

    handshakes.py early PORT    sends requests in 0-RTT
    handshakes.py retry PORT    must prove its address
"""

import asyncio
import sys

from aioquic.quic.events import HandshakeCompleted
from client import *


class Early(Client):
    """Receives nothing until `release`, so that the handshake does not complete."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.held = []
        self.completed = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        if self.held is None:
            super().datagram_received(data, address)
        else:
            self.held.append((data, address))

    def release(self):
        held, self.held = self.held, None
        for packet in held:
            super().datagram_received(*packet)

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.completed.set_result(event)
        super().quic_event_received(event)


async def early_data(port):
    tickets = asyncio.Queue()
    async with connected(port, session_ticket_handler=tickets.put_nowait):
        ticket = await soon(tickets.get())
    config = configuration()
    config.session_ticket = ticket
    served = asyncio.Event()
    notified = await asyncio.start_server(lambda *_: served.set(), "127.0.0.1", 0)
    async with connect(
        "127.0.0.1", port, configuration=config, create_protocol=Early, wait_connected=False
    ) as client:
        unsafe = [
            client.connect_to("example.com:443"),
            client.extended_connect("echo"),
            client.request("POST", end=True),
        ]
        # The server serves the GET, which comes last, before it completes the handshake.
        safe = client.request("GET", f"/{notified.sockets[0].getsockname()[1]}", end=True)
        await soon(served.wait())
        client.release()
        assert (await soon(client.completed)).early_data_accepted
        assert await safe.status() == 200
        for stream in unsafe:
            assert await stream.status() == 425, stream.headers
            await stream.read_to_end()
        # The same requests are served after the handshake.
        for stream in [client.connect_to("example.com:443"), client.extended_connect("echo")]:
            await stream.accepted()
            stream.send(b"ping", end=True)
            assert await stream.read_to_end() == b"ping"
    notified.close()


async def retry(port):
    async with connected(port) as client:
        # The server does not accept an unproven address.
        assert client._quic._retry_count == 1
        stream = client.extended_connect("echo")
        await stream.accepted()
        stream.send(b"ping", end=True)
        assert await stream.read_to_end() == b"ping"


cases = {"early": early_data, "retry": retry}
asyncio.run(passes(cases[sys.argv[1]], int(sys.argv[2])))
