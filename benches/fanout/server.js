// Sends each message to all WebSockets, with the package ws and its defaults.
'use strict';

const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0 }, () => {
  const { address, port } = server.address();
  console.log(`${address}:${port}`);
});
server.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, binary) => {
    for (const client of server.clients) client.send(data, { binary });
  });
});
process.stdin.resume();
process.stdin.on('end', () => process.exit());
