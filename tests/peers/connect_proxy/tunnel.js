// TLS in an HTTP/2 tunnel, as browsers use an HTTP/2 proxy.
//
//     node tunnel.js https://PROXY HOST:PORT
//
// Prints the body of the response to `GET /` from HOST, or `refused STATUS TEXT`.
'use strict';

const http2 = require('node:http2');
const tls = require('node:tls');

const [proxy, target] = process.argv.slice(2);
// The servers have self-signed certificates.
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
