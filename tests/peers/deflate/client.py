# A client with the websockets library that compresses its messages (RFC 7692). Prints the agreed parameters.
#
#     /usr/bin/python3 client.py ws://127.0.0.1:3000/ PARAMETER=VALUE..

import asyncio
import os
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory


async def main():
    url, *parameters = sys.argv[1:]
    parameters = dict(parameter.split("=") for parameter in parameters)
    parameters = {name: int(value) if int(value) > 1 else True for name, value in parameters.items()}
    extension = ClientPerMessageDeflateFactory(**parameters)
    async with websockets.connect(url, compression=None, extensions=[extension], max_size=None) as socket:
        [agreed] = socket.extensions
        text = "some text, and more of some text, "
        noise = os.urandom(70000)
        messages = ["", "a", "grüß dich", text, text * 100, text * 20000, noise, text, noise, text]
        messages += [f'{{"number": {number}, "text": "{text}"}}' for number in range(100)]
        for number, message in enumerate(messages):
            # A list is sent in fragments.
            in_parts = [message[:10], message[10:1000], message[1000:]]
            await socket.send(in_parts if number in [4, 5] else message)
            assert await socket.recv() == message, number
        await socket.close(4001, "enough")
        assert socket.close_code == 4001, socket.close_code
    print(agreed)


asyncio.run(main())
