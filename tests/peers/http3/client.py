"""A client for HTTP/3 with aioquic, examples as processes, and a lossy UDP hop."""

import asyncio
import collections
import contextlib
import random
import ssl

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.buffer import Buffer
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection, Setting, StreamType
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived, StreamReset

NO_ERROR = 0x100
REQUEST_REJECTED = 0x10B
REQUEST_CANCELLED = 0x10C
CONNECT_ERROR = 0x10F

# The time after which a wait counts as a hang.
HANG = 25


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, HANG)


class Http(H3Connection):
    # aioquic enables datagrams only with WebTransport.
    def _get_local_settings(self):
        return super()._get_local_settings() | {Setting.H3_DATAGRAM: 1}


class Reset(Exception):
    """The peer reset the stream with this code."""


class Stream:
    def __init__(self, client, number):
        self.client, self.number = client, number
        self.changed = asyncio.Event()
        self.headers = None
        self.data = bytearray()
        self.has_ended = False
        self.reset_code = None
        self.stop_code = None
        self.datagrams = asyncio.Queue()

    def on(self, event):
        if isinstance(event, HeadersReceived):
            self.headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, DataReceived):
            self.data += event.data
        elif isinstance(event, DatagramReceived):
            self.datagrams.put_nowait(event.data)
        elif isinstance(event, StreamReset):
            self.reset_code = event.error_code
        elif isinstance(event, StopSendingReceived):
            self.stop_code = event.error_code
        self.has_ended |= getattr(event, "stream_ended", False)
        self.changed.set()

    async def until(self, is_so):
        while not is_so():
            self.changed.clear()
            await soon(self.changed.wait())

    async def status(self):
        await self.until(lambda: self.headers or self.reset_code is not None)
        if self.headers is None:
            raise Reset(self.reset_code)
        return int(self.headers[":status"])

    async def accepted(self):
        status = await self.status()
        assert status == 200, (status, bytes(self.data))
        return self

    async def read(self, length):
        """Returns exactly `length` bytes."""
        await self.until(lambda: len(self.data) >= length or self.has_ended or self.reset_code is not None)
        if len(self.data) < length and self.reset_code is not None:
            raise Reset(self.reset_code)
        assert len(self.data) >= length, f"the stream ended after {len(self.data)} bytes"
        read = bytes(self.data[:length])
        del self.data[:length]
        return read

    async def read_to_end(self):
        await self.until(lambda: self.has_ended or self.reset_code is not None)
        if not self.has_ended:
            raise Reset(self.reset_code)
        return await self.read(len(self.data))

    async def was_reset(self):
        """Waits until the peer has reset the stream, and returns the code."""
        await self.until(lambda: self.reset_code is not None or self.has_ended)
        assert not self.has_ended, "an abort looks like an end"
        return self.reset_code

    async def was_stopped(self):
        """Waits until the peer receives no further data, and returns the code."""
        await self.until(lambda: self.stop_code is not None)
        return self.stop_code

    def send(self, data, end=False):
        self.client.http.send_data(self.number, data, end)
        self.client.transmit()

    def reset(self, code=REQUEST_CANCELLED):
        self.client._quic.reset_stream(self.number, code)
        self.client.transmit()

    def stop(self, code=REQUEST_CANCELLED):
        self.client._quic.stop_stream(self.number, code)
        self.client.transmit()

    def send_datagram(self, payload):
        """Sends a UDP payload (RFC 9298, section 5)."""
        self.client.http.send_datagram(self.number, b"\0" + payload)
        self.client.transmit()

    async def datagram(self):
        return await soon(self.datagrams.get())


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.http = Http(self._quic)
        self.streams = {}
        self.unidirectional = collections.defaultdict(bytes)
        self.terminated = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.terminated.set_result(event)
        if isinstance(event, StreamDataReceived) and event.stream_id % 4 == 3:
            self.unidirectional[event.stream_id] += event.data
        if isinstance(event, (StreamReset, StopSendingReceived)) and event.stream_id in self.streams:
            self.streams[event.stream_id].on(event)
        for received in self.http.handle_event(event):
            self.streams[received.stream_id].on(received)

    def request(self, method, path="/", headers=(), end=False, **pseudo):
        """Sends a request. `pseudo` has further pseudo-header fields, without their colon."""
        fields = {"scheme": "https", "authority": "127.0.0.1", "path": path} | pseudo
        fields = [(f":{name}", value) for name, value in fields.items() if value is not None]
        fields = [(":method", method), *fields, *headers]
        number = self._quic.get_next_available_stream_id()
        stream = self.streams[number] = Stream(self, number)
        self.http.send_headers(number, [(name.encode(), value.encode()) for name, value in fields], end)
        self.transmit()
        return stream

    def extended_connect(self, protocol, path="/", headers=()):
        return self.request("CONNECT", path, headers, protocol=protocol)

    def connect_to(self, target):
        return self.request("CONNECT", path=None, scheme=None, authority=target)

    def goaways(self):
        """Returns the IDs of the GOAWAY frames that have arrived, which aioquic ignores."""
        (control,) = [data[1:] for data in self.unidirectional.values() if data[0] == StreamType.CONTROL]
        frames, found = Buffer(data=control), []
        while not frames.eof():
            kind, payload = frames.pull_uint_var(), Buffer(data=frames.pull_bytes(frames.pull_uint_var()))
            if kind == FrameType.GOAWAY:
                found.append(payload.pull_uint_var())
        return found

    async def closed(self):
        """Waits until the server has closed the connection, and returns the code."""
        return (await soon(asyncio.shield(self.terminated))).error_code


def configuration():
    return QuicConfiguration(
        is_client=True,
        alpn_protocols=H3_ALPN,
        verify_mode=ssl.CERT_NONE,
        max_datagram_frame_size=65536,
        # The next probe on a busy machine.
        idle_timeout=HANG,
    )


def connected(port, config=None, **options):
    return connect(
        "127.0.0.1", port, configuration=config or configuration(), create_protocol=Client, **options
    )


class Example:
    """An example on a free port."""

    def __init__(self, process, port):
        self.process, self.port = process, port

    @classmethod
    async def start(cls, program, *args):
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            program, "--listen", "127.0.0.1:0", "--http3", *args, stdout=pipe, stderr=pipe
        )
        line = (await soon(process.stdout.readline())).decode()
        assert line.startswith("listening on https://127.0.0.1:"), line
        return cls(process, int(line.rsplit(":", 1)[1]))

    def terminate(self):
        self.process.terminate()

    async def ended(self):
        """Waits for an orderly exit."""
        stdout, stderr = await soon(self.process.communicate())
        stdout, stderr = stdout.decode(), stderr.decode()
        assert self.process.returncode == 0, stderr
        assert " 0 aborted, 0 left" in stdout, stdout
        for bad in ["panicked", "in time", "failed:"]:
            assert bad not in stderr, stderr


@contextlib.asynccontextmanager
async def example(program, *args):
    """Runs an example, which must exit in order at the end."""
    started = await Example.start(program, *args)
    try:
        yield started
        if started.process.returncode is None:
            started.terminate()
            await started.ended()
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.process.kill()


class Hop(asyncio.DatagramProtocol):
    """Forwards packets between a client and a server: drops 5 %, doubles 2 %, and delays 5 % behind the next packet."""

    def __init__(self, random, forward):
        self.random, self.forward, self.held = random, forward, []
        self.is_lossy = True
        self.dropped = self.swapped = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        chance = self.random.random() if self.is_lossy else 1
        if chance < 0.05:
            self.dropped += 1
        elif chance < 0.10:
            self.swapped += 1
            self.held.append((data, address))
            # The last packet has no next one.
            asyncio.get_running_loop().call_later(0.02, self.release)
        else:
            self.forward(data, address)
            if chance < 0.12:
                self.forward(data, address)
            self.release()

    def release(self):
        for held in self.held:
            self.forward(*held)
        self.held.clear()


@contextlib.asynccontextmanager
async def lossy(port, seed):
    """Yields the port of a lossy hop to `port`, for one client, and a function that returns its statistics."""
    loop, client, packets = asyncio.get_running_loop(), [], random.Random(seed)
    hops = []

    def to_server(data, address):
        client[:] = [address]
        hops[1].transport.sendto(data)

    def to_client(data, _address):
        hops[0].transport.sendto(data, client[0])

    near, hop = await loop.create_datagram_endpoint(
        lambda: Hop(packets, to_server), local_addr=("127.0.0.1", 0)
    )
    hops.append(hop)
    far, hop = await loop.create_datagram_endpoint(
        lambda: Hop(packets, to_client), remote_addr=("127.0.0.1", port)
    )
    hops.append(hop)
    try:
        yield near.get_extra_info("sockname")[1], hops
    finally:
        near.close()
        far.close()


async def close_without_loss(client, hops):
    """Acknowledges all data, for which the server would wait: the packet that closes a connection is not repeated."""
    for hop in hops:
        hop.is_lossy = False
    await soon(client.ping())


async def passes(case, *args):
    """Runs a case, and prints its name."""
    await case(*args)
    print(case.__name__, flush=True)
