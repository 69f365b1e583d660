// Node's built-in server: HTTP/1.1, HTTP/2 with extended CONNECT, or HTTP/2 without it.
//
//     node server.js http1|http2|http2-plain
//
// Prints its URL. Each path is a way to handle an upgrade. CONNECT opens a tunnel to any target for the user `ann`.
'use strict';

const http = require('node:http');
const http2 = require('node:http2');
const net = require('node:net');

/** `ann`, with the password `secret`. */
const ANN = 'Basic YW5uOnNlY3JldA==';

/** Counts the bytes of the peer until EOF. */
function count(io, ended) {
  let read = 0;
  io.on('data', (chunk) => { read += chunk.length; });
  io.on('end', () => ended(read));
}

/** The session handler of each path, for both versions of HTTP. */
const SESSIONS = {
  '/echo': (io) => io.pipe(io),

  // Writes after the peer has closed its side.
  '/after'(io) {
    count(io, (read) => {
      io.write(`read ${read} bytes, `);
      // The last bytes follow in a separate write.
      setImmediate(() => io.end('and the end'));
    });
  },

  // Closes its side first, and reads on.
  '/before'(io) {
    io.end('no more from here');
    count(io, (read) => console.log(`read ${read} bytes`));
  },

  // Reads nothing. On HTTP/2 Node resets the stream with NO_ERROR.
  '/enough': (io) => io.end('enough'),

  // Resets the session after the first byte, when the client has received the upgrade response.
  '/break'(io) {
    io.on('error', () => {});
    io.once('data', () => {
      if (io.resetAndDestroy) io.resetAndDestroy();
      else io.destroy(new Error('broken'));
    });
  },
};

/** Invalid upgrade responses. */
const INVALID = {
  '/other': 'Connection: Upgrade\r\nUpgrade: other\r\n',
  '/none': 'Connection: Upgrade\r\n',
  '/unlisted': 'Upgrade: echo\r\n',
};

/** Connects to the target of a CONNECT, and relays. */
function dial(authority, io, connected) {
  const { hostname, port } = new URL(`http://${authority}`);
  const target = net.connect({ host: hostname, port, allowHalfOpen: true }, () => {
    connected();
    io.pipe(target).pipe(io);
  });
  for (const [side, other] of [[io, target], [target, io]]) {
    side.on('error', () => other.destroy());
  }
}

function http1() {
  // A plain request.
  const server = http.createServer((request, response) => response.end('plain'));

  server.on('upgrade', (request, socket, head) => {
    if (head.length > 0) throw new Error(`before the upgrade response: ${head}`);
    const statusLine = 'HTTP/1.1 101 Switching Protocols\r\n';
    const right = 'Connection: keep-alive, UPGRADE\r\nUpgrade: echo\r\n\r\n';
    const path = request.url;
    if (path === '/refuse') {
      let read = 0;
      socket.on('data', (chunk) => { read += chunk.length; });
      socket.on('error', () => {});
      socket.on('close', () => console.log(`read ${read} bytes`));
      socket.end('HTTP/1.1 403 Forbidden\r\nx-why: no\r\nContent-Length: 9\r\n\r\nnot today');
    } else if (path in INVALID) {
      // A client that accepts the response would print these bytes.
      socket.end(`${statusLine}${INVALID[path]}\r\ncareless`);
    } else if (path === '/head') {
      const { host, ...fields } = request.headers;
      socket.end(`${statusLine}${right}${JSON.stringify(fields)}`);
    } else {
      // Early bytes in one segment with the head.
      socket.write(`${statusLine}${right}early, `);
      SESSIONS[path](socket);
    }
  });

  server.on('connect', (request, socket, head) => {
    if (head.length > 0) throw new Error(`before the tunnel: ${head}`);
    if (request.headers['proxy-authorization'] !== ANN) {
      const why = 'Proxy-Authenticate: Basic realm="tunnels"\r\nContent-Length: 11\r\n\r\nnot allowed';
      socket.end(`HTTP/1.1 407 Proxy Authentication Required\r\n${why}`);
      return;
    }
    dial(request.url, socket, () => socket.write('HTTP/1.1 200 Connection Established\r\n\r\n'));
  });
  return server;
}

function overHttp2(enableConnectProtocol) {
  const server = http2.createServer({ settings: { enableConnectProtocol } });
  server.on('stream', (stream, head) => {
    const { ':method': method, ':protocol': protocol, ':path': path } = head;
    if (method === 'CONNECT' && protocol === undefined) {
      if (head['proxy-authorization'] === ANN) {
        dial(head[':authority'], stream, () => stream.respond());
      } else {
        stream.respond({ ':status': 407, 'proxy-authenticate': 'Basic realm="tunnels"' });
        stream.end('not allowed');
      }
    } else if (method !== 'CONNECT' || protocol !== 'echo') {
      stream.respond({ ':status': 404 });
      stream.end('plain');
    } else if (path === '/refuse') {
      let read = 0;
      stream.on('data', (chunk) => { read += chunk.length; });
      stream.on('close', () => console.log(`read ${read} bytes`));
      stream.respond({ ':status': 403, 'x-why': 'no' });
      stream.end('not today');
    } else if (path === '/head') {
      const fields = Object.entries(head).filter(([name]) => !['host', ':authority'].includes(name));
      stream.respond();
      stream.end(JSON.stringify(Object.fromEntries(fields)));
    } else {
      stream.respond();
      stream.write('early, ');
      SESSIONS[path](stream);
    }
  });
  return server;
}

const KINDS = {
  http1,
  http2: () => overHttp2(true),
  'http2-plain': () => overHttp2(false),
};

const server = KINDS[process.argv[2]]();
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
