# A server with the websockets library: prints its URL, sends `hello`, and echoes messages.
#
#     /usr/bin/python3 chat.py

import asyncio

import websockets


async def echo(websocket, *_path):
    await websocket.send("hello")
    async for message in websocket:
        await websocket.send(message)


async def main():
    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        address, port = list(server.sockets)[0].getsockname()
        print(f"listening on http://{address}:{port}", flush=True)
        await asyncio.Future()


asyncio.run(main())
