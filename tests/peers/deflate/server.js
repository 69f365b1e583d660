// A server with the library `ws` that compresses its messages (RFC 7692). Echoes messages, and prints its URL.
//
//     NODE_PATH=/usr/share/nodejs node server.js OPTIONS
'use strict';

const { WebSocketServer } = require('ws');

const perMessageDeflate = { threshold: 0, ...JSON.parse(process.argv[2]) };
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate });
server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.on('listening', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
