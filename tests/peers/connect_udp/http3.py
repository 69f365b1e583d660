"""HTTP/3 between libcurl and aioquic, through a UDP proxy.

    http3.py server                             prints its port; echoes the content of requests
    http3.py client PORT PROXY [USER:PASSWORD]  sends a request through the proxy at the URL

The client prints `echo ok`, or the error. It offers HTTP/2 to a proxy with TLS.
"""

import asyncio
import io
import os
import sys
import tempfile

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated
from curl_cffi import Curl, CurlError, CurlHttpVersion, CurlInfo, CurlOpt

from quic import certificate

HTTP_PROXY, HTTPS2_PROXY = 0, 3  # values of CURLOPT_PROXYTYPE
HTTP3 = 30  # a value of CURLINFO_HTTP_VERSION


class Echo(QuicConnectionProtocol):
    http = None

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if self.http is None:
            return
        for received in self.http.handle_event(event):
            if isinstance(received, DataReceived):
                self.http.send_data(received.stream_id, received.data, received.stream_ended)
            else:
                self.http.send_headers(received.stream_id, [(b":status", b"200")], received.stream_ended)
        self.transmit()


async def run_server():
    config = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate())
        file.flush()
        config.load_cert_chain(file.name, file.name)
    server = await serve("127.0.0.1", 0, configuration=config, create_protocol=Echo)
    print(server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


def run_client(port, proxy, credentials=None):
    content, received = os.urandom(1_000_000), io.BytesIO()
    options = {
        CurlOpt.URL: f"https://127.0.0.1:{port}/",
        CurlOpt.HTTP_VERSION: CurlHttpVersion.V3ONLY,
        CurlOpt.SSL_VERIFYPEER: 0,
        CurlOpt.SSL_VERIFYHOST: 0,
        CurlOpt.PROXY: proxy,
        CurlOpt.PROXYTYPE: HTTPS2_PROXY if proxy.startswith("https:") else HTTP_PROXY,
        CurlOpt.HTTPPROXYTUNNEL: 1,
        CurlOpt.PROXY_SSL_VERIFYPEER: 0,
        CurlOpt.PROXY_SSL_VERIFYHOST: 0,
        CurlOpt.POST: 1,
        CurlOpt.POSTFIELDS: content,
        CurlOpt.POSTFIELDSIZE: len(content),
        CurlOpt.WRITEDATA: received,
    }
    if credentials is not None:
        options[CurlOpt.PROXYUSERPWD] = credentials
    curl = Curl()
    for option, value in options.items():
        curl.setopt(option, value.encode() if isinstance(value, str) else value)
    try:
        curl.perform()
    except CurlError as error:
        print(error)
        return
    assert curl.getinfo(CurlInfo.USED_PROXY) == 1
    assert curl.getinfo(CurlInfo.HTTP_VERSION) == HTTP3
    assert received.getvalue() == content
    print("echo ok")


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(run_server())
    else:
        run_client(*sys.argv[2:])
