// Node's HTTP server with the library `ws`, which is behind the proxy.
//
//     NODE_PATH=/usr/share/nodejs node server.js
//
// It says where it listens, and then all that comes to it: requests, upgrades, and how sessions closed.
'use strict';

const http = require('node:http');
const { WebSocketServer } = require('ws');

const WHY = 'who is this?\n';
const REFUSAL = [
  'HTTP/1.1 401 Unauthorized',
  'WWW-Authenticate: Basic realm="node"',
  'Connection: close',
  'Content-Type: text/plain',
  `Content-Length: ${WHY.length}`,
  '',
  WHY,
].join('\r\n');

/** What is offered first is not what is chosen. */
const handleProtocols = (offered) => (offered.has('echo') ? 'echo' : false);

const plain = new WebSocketServer({ noServer: true, handleProtocols });
const deflate = new WebSocketServer({
  noServer: true,
  handleProtocols,
  perMessageDeflate: { threshold: 0 },
});

/** What a client may ask a session for. All else is an echo. */
const ORDERS = {
  close: (socket) => socket.close(4002, 'enough of you'),
  // No frame, and no goodbye.
  break: (socket) => socket.terminate(),
  head: (socket, request) => socket.send(JSON.stringify(request.headers)),
};

const server = http.createServer((request, response) => {
  console.log(`request ${request.method} ${request.url}`);
  response.end('from behind');
});

server.on('upgrade', (request, io, head) => {
  console.log(`upgrade ${request.url}`);
  // How it ends is what is looked at from the other end.
  io.on('error', () => {});
  if (request.url === '/refused') {
    io.end(REFUSAL);
    return;
  }
  const sockets = request.url === '/deflate' ? deflate : plain;
  sockets.handleUpgrade(request, io, head, (socket) => {
    socket.on('message', (data, isBinary) => {
      const order = isBinary ? undefined : ORDERS[data.toString()];
      if (order) order(socket, request);
      else socket.send(data, { binary: isBinary });
    });
    socket.on('close', (code, reason) => console.log(`closed ${code} ${reason}`));
  });
});

server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
