// Node's HTTP server with the library `ws`, as the backend.
//
//     NODE_PATH=/usr/share/nodejs node server.js
//
// Prints its URL, and then each request, each upgrade, and the close code and reason of each session.
'use strict';

const http = require('node:http');
const { WebSocketServer } = require('ws');

const BODY = 'authentication required\n';
const REFUSAL = [
  'HTTP/1.1 401 Unauthorized',
  'WWW-Authenticate: Basic realm="node"',
  'Connection: close',
  'Content-Type: text/plain',
  `Content-Length: ${BODY.length}`,
  '',
  BODY,
].join('\r\n');

/** Chooses a subprotocol that is not the first of the offer. */
const handleProtocols = (offered) => (offered.has('echo') ? 'echo' : false);

const plain = new WebSocketServer({ noServer: true, handleProtocols });
const deflate = new WebSocketServer({
  noServer: true,
  handleProtocols,
  perMessageDeflate: { threshold: 0 },
});

/** Actions that a client requests with a text message. Other messages are echoed. */
const ACTIONS = {
  close: (socket) => socket.close(4002, 'server is done'),
  // Closes the connection without a close frame.
  break: (socket) => socket.terminate(),
  head: (socket, request) => socket.send(JSON.stringify(request.headers)),
};

const server = http.createServer((request, response) => {
  console.log(`request ${request.method} ${request.url}`);
  response.end('plain');
});

server.on('upgrade', (request, io, head) => {
  console.log(`upgrade ${request.url}`);
  // The client checks how the session ends.
  io.on('error', () => {});
  if (request.url === '/refused') {
    io.end(REFUSAL);
    return;
  }
  const sockets = request.url === '/deflate' ? deflate : plain;
  sockets.handleUpgrade(request, io, head, (socket) => {
    socket.on('message', (data, isBinary) => {
      const action = isBinary ? undefined : ACTIONS[data.toString()];
      if (action) action(socket, request);
      else socket.send(data, { binary: isBinary });
    });
    socket.on('close', (code, reason) => console.log(`closed ${code} ${reason}`));
  });
});

server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
