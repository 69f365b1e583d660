// A client with the library `ws` that compresses its messages (RFC 7692). Prints the agreed extension.
//
//     NODE_PATH=/usr/share/nodejs node client.js ws://127.0.0.1:3000/ OPTIONS
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const { randomBytes } = require('node:crypto');
const WebSocket = require('ws');

async function main() {
  const [url, options] = process.argv.slice(2);
  const perMessageDeflate = { threshold: 0, ...JSON.parse(options) };
  const socket = new WebSocket(url, { perMessageDeflate });
  await once(socket, 'open');
  const random = randomBytes(70000);
  const text = 'some text, and more of some text, ';
  const messages = ['', 'a', 'grüß dich', text, text.repeat(100), text.repeat(20000), random, text, random, text];
  for (let number = 0; number < 100; number += 1) messages.push(`{"number": ${number}, "text": "${text}"}`);
  let received = 0;
  const all = new Promise((resolve) => {
    socket.on('message', (data, isBinary) => {
      const message = messages[received];
      assert.strictEqual(isBinary, Buffer.isBuffer(message));
      assert.ok(data.equals(Buffer.from(message)), `message ${received}`);
      received += 1;
      if (received === messages.length) resolve();
    });
  });
  messages.forEach((message, number) => {
    if (number === 4 || number === 5) {
      // In three frames.
      socket.send(message.slice(0, 10), { fin: false });
      socket.send(message.slice(10, 1000), { fin: false });
      socket.send(message.slice(1000), { fin: true });
      socket.ping();
    } else {
      socket.send(message);
    }
  });
  await all;
  socket.close(4001, 'enough');
  const [code] = await once(socket, 'close');
  assert.strictEqual(code, 4001);
  console.log(socket.extensions);
  console.log(JSON.stringify(socket._extensions['permessage-deflate'].params));
}

main();
