# A client with the websockets library: runs each CASE, and prints its name when it has passed.
#
#     /usr/bin/python3 client.py ws://127.0.0.1:3000/ [CASE]..

import asyncio
import sys

import websockets
from websockets.exceptions import ConnectionClosedError, InvalidStatusCode


async def echoes(url):
    # The client offers permessage-deflate, and the server declines it.
    async with websockets.connect(url, subprotocols=["other", "echo"], max_size=None) as socket:
        assert socket.subprotocol == "echo", socket.subprotocol
        assert not socket.extensions, socket.extensions
        for length in [0, 1, 125, 126, 65535, 65536, 1000000]:
            message = bytes(length)
            await socket.send(message)
            assert await socket.recv() == message, length
        await socket.send("grüß dich")
        assert await socket.recv() == "grüß dich"
        # A fragmented message.
        await socket.send(["one ", "two ", "three"])
        assert await socket.recv() == "one two three"
        waiter = await socket.ping(b"there?")
        await asyncio.wait_for(waiter, 30)
        # Many messages in flight in both directions.
        messages = [bytes([number % 256]) * 1000 for number in range(1000)]
        sending = asyncio.ensure_future(send_all(socket, messages))
        for message in messages:
            assert await socket.recv() == message
        await sending
        await socket.close(4001, "enough")
        assert socket.close_code == 4001, socket.close_code


async def send_all(socket, messages):
    for message in messages:
        await socket.send(message)


async def too_large(url):
    async with websockets.connect(url) as socket:
        await socket.send(bytes(1024 * 1024 + 1))
        try:
            await socket.recv()
        except ConnectionClosedError as closed:
            assert closed.code == 1009, closed


async def another_origin(url):
    try:
        await websockets.connect(url, origin="http://elsewhere.example")
    except InvalidStatusCode as refused:
        assert refused.status_code == 403, refused


async def stops(url):
    async with websockets.connect(url) as socket:
        await socket.send("stop")
        try:
            await socket.recv()
        except websockets.exceptions.ConnectionClosedOK as closed:
            assert closed.code == 1001, closed


async def main():
    url, *names = sys.argv[1:]
    for case in [echoes, too_large, another_origin, stops]:
        if names and case.__name__ not in names:
            continue
        await case(url)
        print(case.__name__, flush=True)


asyncio.run(main())
