"""HTTP/3 with libcurl: requests to a server, and through a proxy that it reaches over HTTP/3.

    libcurl.py URL [PROXY]

For each request it prints the version, a value of CURLINFO_HTTP_VERSION, and the body. With a proxy it sends two
requests: one over HTTP/1.1 through CONNECT, and one over HTTP/3 through CONNECT-UDP.
"""

import io
import sys

from curl_cffi import Curl, CurlHttpVersion, CurlInfo, CurlOpt

HTTPS3_PROXY = 8  # a value of CURLOPT_PROXYTYPE


def get(url, version, proxy=None):
    body = io.BytesIO()
    options = {
        CurlOpt.URL: url,
        CurlOpt.HTTP_VERSION: version,
        CurlOpt.SSL_VERIFYPEER: 0,
        CurlOpt.SSL_VERIFYHOST: 0,
        CurlOpt.WRITEDATA: body,
    }
    if proxy is not None:
        options |= {
            CurlOpt.PROXY: proxy,
            CurlOpt.PROXYTYPE: HTTPS3_PROXY,
            CurlOpt.HTTPPROXYTUNNEL: 1,
            CurlOpt.PROXY_SSL_VERIFYPEER: 0,
            CurlOpt.PROXY_SSL_VERIFYHOST: 0,
        }
    curl = Curl()
    for option, value in options.items():
        curl.setopt(option, value.encode() if isinstance(value, str) else value)
    curl.perform()
    assert curl.getinfo(CurlInfo.RESPONSE_CODE) == 200
    assert curl.getinfo(CurlInfo.USED_PROXY) == (proxy is not None)
    print(curl.getinfo(CurlInfo.HTTP_VERSION), body.getvalue().decode().strip(), flush=True)


url, *proxy = sys.argv[1:]
if proxy:
    get(url, CurlHttpVersion.V1_1, *proxy)
get(url, CurlHttpVersion.V3ONLY, *proxy)
