"""Numbered datagrams at a steady rate, through a UDP proxy and back.

    load.py server                          prints its port; echoes datagrams
    load.py client SIZE PORT PROXY_PORT     sends through the proxy with a raw HTTP/1.1 request
    load.py client SIZE PORT COMMAND...     sends through a command that takes length-prefixed payloads, such as upcat

The client prints the number of echoes that were received, lost, received twice, corrupted, and out of order.
"""

import asyncio
import os
import struct
import sys
import zlib

from quic import Transport, connect

COUNT = 4000
RATE = 2000
SILENCE = 2


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def run_server():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


def numbered(number, size):
    """Returns a datagram: a checksum, the number, and noise."""
    content = struct.pack(">I", number) + os.urandom(size - 8)
    return struct.pack(">I", zlib.crc32(content)) + content


class Received:
    def __init__(self):
        self.numbers = set()
        self.last = -1
        self.twice = self.corrupted = self.late = 0

    def add(self, data, size):
        if len(data) != size or struct.pack(">I", zlib.crc32(data[4:])) != data[:4]:
            self.corrupted += 1
            return
        (number,) = struct.unpack(">I", data[4:8])
        self.twice += number in self.numbers
        self.late += number < self.last
        self.last = max(self.last, number)
        self.numbers.add(number)


async def send(transport, size):
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(COUNT):
        transport.sendto(numbered(number, size))
        await asyncio.sleep(start + number / RATE - loop.time())


async def run_client(size, port, path):
    transport = Transport(*await connect(port, path))
    received = Received()
    sending = asyncio.create_task(send(transport, size))
    while len(received.numbers) < COUNT:
        try:
            received.add(await asyncio.wait_for(transport.receive(), SILENCE), size)
        except TimeoutError:
            # A slow machine may still be sending.
            if sending.done():
                break
    count = len(received.numbers)
    print(
        f"received {count} lost {COUNT - count} twice {received.twice}"
        f" corrupted {received.corrupted} late {received.late}",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(run_server())
    else:
        asyncio.run(run_client(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
