// A server of Node's for upcat: HTTP/1.1, HTTP/2 with extended CONNECT, or HTTP/2 without it.
//
//     node server.js http1|http2|http2-plain
//
// It says where it listens. Each path shows what a server may do with an upgrade, and CONNECT leads
// where it is asked to, for Ann.
'use strict';

const http = require('node:http');
const http2 = require('node:http2');
const net = require('node:net');

/** `ann`, with the password `secret`. */
const ANN = 'Basic YW5uOnNlY3JldA==';

/** How much the peer says, up to an end in order. */
function count(io, ended) {
  let heard = 0;
  io.on('data', (chunk) => { heard += chunk.length; });
  io.on('end', () => ended(heard));
}

/** What becomes of a session, whatever version of HTTP it comes from. */
const SESSIONS = {
  '/echo': (io) => io.pipe(io),

  // The server goes on when its peer has said all.
  '/after'(io) {
    count(io, (heard) => {
      io.write(`heard ${heard} bytes, `);
      // Not in one piece with the end.
      setImmediate(() => io.end('and the end'));
    });
  },

  // It has said all before its peer has, and still listens.
  '/before'(io) {
    io.end('no more from here');
    count(io, (heard) => console.log(`heard ${heard} bytes`));
  },

  // It wants to hear nothing. On HTTP/2 Node says so, with a reset that means no harm.
  '/enough': (io) => io.end('that is all'),

  // It breaks when it hears something: by then the switch has arrived.
  '/break'(io) {
    io.on('error', () => {});
    io.once('data', () => {
      if (io.resetAndDestroy) io.resetAndDestroy();
      else io.destroy(new Error('broken'));
    });
  },
};

/** Switches that are none. */
const WRONG = {
  '/other': 'Connection: Upgrade\r\nUpgrade: other\r\n',
  '/none': 'Connection: Upgrade\r\n',
  '/unlisted': 'Upgrade: echo\r\n',
};

/** Connects to where a CONNECT leads, and joins the two. */
function dial(authority, io, connected) {
  const { hostname, port } = new URL(`http://${authority}`);
  const target = net.connect({ host: hostname, port, allowHalfOpen: true }, () => {
    connected();
    io.pipe(target).pipe(io);
  });
  for (const [end, other] of [[io, target], [target, io]]) {
    end.on('error', () => other.destroy());
  }
}

function http1() {
  // A GET that asks for nothing.
  const server = http.createServer((request, response) => response.end('plain'));

  server.on('upgrade', (request, socket, head) => {
    if (head.length > 0) throw new Error(`before the switch: ${head}`);
    const switching = 'HTTP/1.1 101 Switching Protocols\r\n';
    const right = 'Connection: keep-alive, UPGRADE\r\nUpgrade: echo\r\n\r\n';
    const path = request.url;
    if (path === '/refuse') {
      let heard = 0;
      socket.on('data', (chunk) => { heard += chunk.length; });
      socket.on('error', () => {});
      socket.on('close', () => console.log(`heard ${heard} bytes`));
      socket.end('HTTP/1.1 403 Forbidden\r\nx-why: no\r\nContent-Length: 9\r\n\r\nnot today');
    } else if (path in WRONG) {
      // Behind it is what a careless client would print.
      socket.end(`${switching}${WRONG[path]}\r\ncareless`);
    } else if (path === '/head') {
      const { host, ...told } = request.headers;
      socket.end(`${switching}${right}${JSON.stringify(told)}`);
    } else {
      // In one segment with the head.
      socket.write(`${switching}${right}early, `);
      SESSIONS[path](socket);
    }
  });

  server.on('connect', (request, socket, head) => {
    if (head.length > 0) throw new Error(`before the tunnel: ${head}`);
    if (request.headers['proxy-authorization'] !== ANN) {
      const why = 'Proxy-Authenticate: Basic realm="tunnels"\r\nContent-Length: 11\r\n\r\nwho is this';
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
        stream.end('who is this');
      }
    } else if (method !== 'CONNECT' || protocol !== 'echo') {
      stream.respond({ ':status': 404 });
      stream.end('plain');
    } else if (path === '/refuse') {
      let heard = 0;
      stream.on('data', (chunk) => { heard += chunk.length; });
      stream.on('close', () => console.log(`heard ${heard} bytes`));
      stream.respond({ ':status': 403, 'x-why': 'no' });
      stream.end('not today');
    } else if (path === '/head') {
      const told = Object.entries(head).filter(([name]) => !['host', ':authority'].includes(name));
      stream.respond();
      stream.end(JSON.stringify(Object.fromEntries(told)));
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
