// TLS in a tunnel over HTTP/2, which is how a browser uses a proxy that speaks it.
//
//     node tunnel.js https://PROXY HOST:PORT
//
// Prints the body of what a `GET /` there is answered with, or `refused STATUS TEXT`.
'use strict';

const http2 = require('node:http2');
const tls = require('node:tls');

const [proxy, target] = process.argv.slice(2);
// The certificates are some that the servers made for themselves.
const rejectUnauthorized = false;

async function text(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const connection = http2.connect(proxy, { rejectUnauthorized });
const stream = connection.request({ ':method': 'CONNECT', ':authority': target }, { endStream: false });
stream.on('response', async (head) => {
  if (head[':status'] === 200) {
    const inside = tls.connect({ socket: stream, rejectUnauthorized });
    inside.write(`GET / HTTP/1.1\r\nHost: ${target}\r\nConnection: close\r\n\r\n`);
    console.log((await text(inside)).split('\r\n\r\n')[1]);
  } else {
    console.log(`refused ${head[':status']} ${await text(stream)}`);
  }
  connection.destroy();
});
