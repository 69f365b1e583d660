// TLS in a tunnel over HTTP/2, which is how a browser uses a proxy that speaks it.
//
//     node tunnel.js https://PROXY HOST:PORT
//
// Prints what a `GET /` there is answered with, or `refused STATUS TEXT`.

'use strict';

const https = require('node:https');
const http2 = require('node:http2');
const tls = require('node:tls');

const [proxy, target] = process.argv.slice(2);
const rejectUnauthorized = false;
const session = http2.connect(proxy, { rejectUnauthorized });
const socket = session.request({ ':method': 'CONNECT', ':authority': target });

function collect(stream, done) {
  let text = '';
  stream.setEncoding('utf8');
  stream.on('data', (data) => { text += data; });
  stream.on('end', () => done(text));
}

socket.on('response', (headers) => {
  const status = headers[':status'];
  if (status !== 200) {
    collect(socket, (text) => {
      console.log(`refused ${status} ${text}`);
      session.close();
    });
    return;
  }
  const createConnection = () => tls.connect({ socket, rejectUnauthorized });
  https.get(`https://${target}/`, { createConnection, agent: false }, (response) => {
    collect(response, (text) => {
      console.log(text);
      session.close();
      session.unref();
    });
  });
});
