"""A gRPC client without generated code. Prints the name of each case that has passed.

    /usr/bin/python3 grpc_client.py HOST:PORT
"""

import sys
import time

import grpc

# A call that takes longer counts as a hang.
HANG = 30

channel = grpc.insecure_channel(sys.argv[1])


def method(kind, name):
    return getattr(channel, kind)(f"/test.Test/{name}")


def expect_error(finish, code, details):
    try:
        finish()
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert error.details() == details, error
        return
    raise AssertionError("no error")


def unary():
    for request in [b"", b"hello", bytes(2_000_000)]:
        response, call = method("unary_unary", "Unary").with_call(
            request, metadata=[("x-request", "7")], timeout=HANG
        )
        assert response == request
        assert ("x-initial", "7") in call.initial_metadata(), call.initial_metadata()
        late = dict(call.trailing_metadata())
        assert late["x-late"] == "1" and late["x-late-bin"] == b"\x00\xff", late


def server_streaming():
    responses = list(method("unary_stream", "Numbers")(b"1000", timeout=HANG))
    assert responses == [str(number).encode() for number in range(1000)]
    assert list(method("unary_stream", "Numbers")(b"0", timeout=HANG)) == []


def client_streaming():
    requests = (str(number).encode() for number in range(1000))
    assert method("stream_unary", "Total")(requests, timeout=HANG) == b"499500"


def bidirectional_streaming():
    """Sends each message after the response to the previous one."""
    received = []

    def requests():
        for number in range(10):
            wait_until(lambda: len(received) == number)
            yield str(number).encode()

    for response in method("stream_stream", "Echo")(requests(), timeout=HANG):
        received.append(response)
    assert received == [str(number).encode() for number in range(10)], received


def wait_until(is_so):
    while not is_so():
        time.sleep(0.001)


def error_without_messages():
    call = method("unary_unary", "Refuse").future(b"", timeout=HANG)
    expect_error(call.result, grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 % ü")
    call = method("unary_unary", "Missing").future(b"", timeout=HANG)
    expect_error(call.result, grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def error_after_a_message():
    call = method("unary_stream", "BreakOff")(b"", timeout=HANG)
    assert next(call) == b"first"
    expect_error(lambda: next(call), grpc.StatusCode.DATA_LOSS, "lost")


def cancel():
    call = method("unary_stream", "Wait")(b"cancelled call")
    assert next(call) == b"waiting"
    call.cancel()


def deadline():
    call = method("unary_stream", "Wait")(b"late call", timeout=1)
    expect_error(lambda: list(call), grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


for case in [
    unary,
    server_streaming,
    client_streaming,
    bidirectional_streaming,
    error_without_messages,
    error_after_a_message,
    cancel,
    deadline,
]:
    case()
    print(case.__name__, flush=True)
