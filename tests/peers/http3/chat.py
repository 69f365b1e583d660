"""WebSocket over extended CONNECT (RFC 9220) to the example `chat` over HTTP/3.

    chat.py PROGRAM     starts the example, and prints a line for each case that has passed
"""

import asyncio
import base64
import json
import os
import sys
from urllib.parse import urlencode

from client import *

TEXT, CLOSE = 1, 8
PASSWORD = "secret"


class WebSocket:
    """The frames that the chat uses: texts and close frames of up to 64 KiB."""

    def __init__(self, stream):
        self.stream = stream

    @classmethod
    async def open(cls, client, port, name):
        query = urlencode({"name": name, "key": os.urandom(18).hex(), "room": "lobby"})
        headers = [("sec-websocket-version", "13"), ("origin", f"https://127.0.0.1:{port}")]
        authority = f"127.0.0.1:{port}"
        stream = client.request(
            "CONNECT", f"/chat?{query}", headers, protocol="websocket", authority=authority
        )
        await stream.accepted()
        assert "sec-websocket-accept" not in stream.headers, stream.headers
        return cls(stream)

    def send(self, opcode, payload, end=False):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.stream.send(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked, end)

    async def receive(self):
        first, length = await self.stream.read(2)
        assert first & 0xF0 == 0x80 and length < 127, (first, length)
        if length == 126:
            length = int.from_bytes(await self.stream.read(2), "big")
        return first & 0x0F, await self.stream.read(length)

    async def message(self, kind):
        """Returns the next message of this kind."""
        while True:
            opcode, payload = await self.receive()
            assert opcode == TEXT, (opcode, payload)
            message = json.loads(payload)
            if message["type"] == kind:
                return message


async def members_exchange_messages(client, port):
    ann, bob = [await WebSocket.open(client, port, name) for name in ["Ann", "Bob"]]
    await bob.message("room")
    message = {"type": "say", "id": "1", "room": "lobby", "text": "over HTTP/3"}
    ann.send(TEXT, json.dumps(message).encode())
    [received] = (await bob.message("messages"))["messages"]
    assert received["text"] == "over HTTP/3", received

    # The list for administrators has the version.
    credentials = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    listed = client.request("GET", "/admin/sessions", [("authorization", f"Basic {credentials}")], end=True)
    assert await listed.status() == 200, listed.data
    sessions = json.loads(await listed.read_to_end())["sessions"]
    assert [session["who"] for session in sessions] == ["Ann", "Bob"], sessions
    assert all(session["http"] == "HTTP/3" for session in sessions), sessions

    # A reset of one member frees the name, and leaves the other.
    bob.stream.reset()
    # For the chat, a lost page is an end without an error.
    await bob.stream.read_to_end()
    bob = await WebSocket.open(client, port, "Bob")
    for socket in [ann, bob]:
        socket.send(CLOSE, (1000).to_bytes(2, "big"))
        opcode, payload = TEXT, b""
        while opcode == TEXT:
            opcode, payload = await socket.receive()
        assert (opcode, payload[:2]) == (CLOSE, (1000).to_bytes(2, "big")), (opcode, payload)
        assert await socket.stream.read_to_end() == b""


async def another_origin_is_refused(client, port):
    headers = [("sec-websocket-version", "13"), ("origin", "https://elsewhere.example")]
    query = urlencode({"name": "Eve", "key": os.urandom(18).hex(), "room": "lobby"})
    stream = client.extended_connect("websocket", f"/chat?{query}", headers)
    assert await stream.status() == 403, stream.headers


async def shutdown_closes_members(client, server):
    ann = await WebSocket.open(client, server.port, "Ann")
    await ann.message("room")
    server.terminate()
    opcode, payload = TEXT, b""
    while opcode == TEXT:
        opcode, payload = await ann.receive()
    assert (opcode, payload[:2]) == (CLOSE, (1001).to_bytes(2, "big")), (opcode, payload)
    ann.send(CLOSE, payload[:2], end=True)
    assert await ann.stream.read_to_end() == b""
    assert await client.closed() == NO_ERROR
    await server.ended()


async def main(program):
    async with example(program, "--admin-password", PASSWORD) as server, connected(server.port) as client:
        await passes(members_exchange_messages, client, server.port)
        await passes(another_origin_is_refused, client, server.port)
        await passes(shutdown_closes_members, client, server)


asyncio.run(main(sys.argv[1]))
