# Runs `wstest` with its server on a free port of the loopback interface, and prints the URL.

from __future__ import print_function

# Before `twisted.internet`: this module chooses the reactor.
from autobahntestsuite import wstest
from twisted.internet import reactor

listen = reactor.listenTCP


def listen_on_loopback(_port, factory, backlog=50, interface=""):
    listener = listen(0, factory, backlog, "127.0.0.1")
    print("listening on ws://127.0.0.1:%d" % listener.getHost().port)
    return listener


reactor.listenTCP = listen_on_loopback
wstest.run()
