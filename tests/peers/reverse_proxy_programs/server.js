// Node's HTTP server as the backend, with HTTP/1.1 and the library `ws`, or with HTTP/2 without TLS.
//
//     NODE_PATH=/usr/share/nodejs node server.js http1|http2
//
// Prints its URL, and then when an event stream opens and when its client leaves.
'use strict';

const http = require('node:http');
const http2 = require('node:http2');
const { WebSocketServer } = require('ws');

let url;
let connections = 0;
const listeners = new Set();

/** Returns the values of a request field, one for each line. */
function lines(request, name) {
  const values = [];
  for (let index = 0; index < request.rawHeaders.length; index += 2) {
    if (request.rawHeaders[index].toLowerCase() === name) values.push(request.rawHeaders[index + 1]);
  }
  return values;
}

const ROUTES = {
  '/head': (request, response) => {
    response.setHeader('Content-Type', 'application/json');
    const { method, url, httpVersion } = request;
    const seen = {
      method,
      url,
      version: httpVersion,
      connection: request.socket.number,
      cookies: lines(request, 'cookie'),
      length: request.headers['content-length'] ?? null,
      coding: request.headers['transfer-encoding'] ?? null,
      large: request.headers['x-large']?.length ?? 0,
    };
    request.resume().on('end', () => response.end(JSON.stringify(seen)));
  },
  '/echo': (request, response) => request.pipe(response),
  '/redirect': (request, response) => {
    response.writeHead(302, { Location: `${url}/head?redirected` }).end();
  },
  '/relative': (request, response) => response.writeHead(307, { Location: '../head' }).end(),
  '/cookies': (request, response) => {
    response.setHeader('Set-Cookie', ['a=1; Path=/; HttpOnly', 'b=2; Domain=test']);
    response.end('cookies');
  },
  '/tagged': (request, response) => {
    response.setHeader('ETag', '"v1"');
    if (request.headers['if-none-match'] === '"v1"') response.writeHead(304).end();
    else response.writeHead(200, { 'Content-Length': 6 }).end('tagged');
  },
  '/large': (request, response) => response.writeHead(200, { 'X-Large': 'x'.repeat(12000) }).end('large'),
  '/chunked': (request, response) => {
    response.write('one,');
    response.write('two,');
    setImmediate(() => response.end('three'));
  },
  '/events': (request, response) => {
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      // Turns off nginx's buffering.
      'X-Accel-Buffering': 'no',
    });
    response.write('data: hello\n\n');
    listeners.add(response);
    console.log('open');
    response.on('close', () => {
      listeners.delete(response);
      console.log('left');
    });
  },
  '/publish': async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    for (const listener of listeners) listener.write(`data: ${body}\n\n`);
    response.end('published');
  },
};

const [version] = process.argv.slice(2);
const server = version === 'http2' ? http2.createServer() : http.createServer();
server.on('connection', (socket) => {
  connections += 1;
  socket.number = connections;
});
server.on('request', (request, response) => {
  const [path] = request.url.replace('/http10', '').split('?');
  const route = ROUTES[path];
  if (route) route(request, response);
  else response.writeHead(404).end('not found');
});

if (version === 'http1') {
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
}

server.listen(0, '127.0.0.1', () => {
  url = `http://127.0.0.1:${server.address().port}`;
  console.log(`listening on ${url}`);
});
