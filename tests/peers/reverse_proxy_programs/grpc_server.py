"""A gRPC server without generated code: messages are bytes.

    /usr/bin/python3 grpc_server.py

Prints its URL, and then the events that the test waits for.
"""

import threading
from concurrent import futures

import grpc


def log(line):
    print(line, flush=True)


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata([("x-initial", metadata["x-request"])])
    context.set_trailing_metadata([("x-late", "1"), ("x-late-bin", b"\x00\xff")])
    return request


def numbers(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def echo(requests, context):
    yield from requests


def refuse(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 % ü")


def break_off(request, context):
    yield b"first"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def wait(request, context):
    """Sends one message, and then waits until the client has cancelled the call."""
    ended = threading.Event()
    assert context.add_callback(ended.set)
    # Without a deadline the result is larger than any time that a client sets.
    has_deadline = context.time_remaining() < 3600
    yield b"waiting"
    ended.wait()
    log(f"{request.decode()} ended, deadline: {has_deadline}")


METHODS = {
    "/test.Test/Unary": grpc.unary_unary_rpc_method_handler(unary),
    "/test.Test/Numbers": grpc.unary_stream_rpc_method_handler(numbers),
    "/test.Test/Total": grpc.stream_unary_rpc_method_handler(total),
    "/test.Test/Echo": grpc.stream_stream_rpc_method_handler(echo),
    "/test.Test/Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "/test.Test/BreakOff": grpc.unary_stream_rpc_method_handler(break_off),
    "/test.Test/Wait": grpc.unary_stream_rpc_method_handler(wait),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(), handlers=[Handler()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
log(f"listening on http://127.0.0.1:{port}")
server.wait_for_termination()
