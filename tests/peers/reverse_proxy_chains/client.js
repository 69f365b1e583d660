// Clients for the backend: the library `ws` over HTTP/1.1, and its frames in a stream of Node's built-in HTTP/2
// client, with extended CONNECT (RFC 8441).
//
//     NODE_PATH=/usr/share/nodejs node client.js http1|http2 http://127.0.0.1:3000 CASE
'use strict';

const assert = require('node:assert');
const { EventEmitter, once } = require('node:events');
const http2 = require('node:http2');
const WebSocket = require('ws');

/** A WebSocket in an HTTP/2 stream, with the part of the interface of `ws` that the cases use. */
class Http2WebSocket extends EventEmitter {
  constructor(url, protocols, { headers = {} }) {
    super();
    const { origin, pathname } = new URL(url);
    const connection = http2.connect(origin);
    connection.once('remoteSettings', (settings) => {
      assert.strictEqual(settings.enableConnectProtocol, true);
      const head = { ':method': 'CONNECT', ':protocol': 'websocket', ':path': pathname, ...headers };
      head['sec-websocket-version'] = '13';
      if (protocols.length > 0) head['sec-websocket-protocol'] = protocols.join(', ');
      this.stream = connection.request(head, { endStream: false });
      this.stream.on('error', () => {});
      this.stream.once('response', (head) => this.onResponse(head));
      this.stream.once('close', () => {
        connection.close();
        this.emit('close', this.code ?? 1006, this.reason ?? Buffer.alloc(0));
      });
    });
  }

  onResponse(head) {
    if (head[':status'] !== 200) {
      const response = { statusCode: head[':status'], headers: head, body: this.stream };
      this.emit('unexpected-response', this.stream, response);
      return;
    }
    // Only HTTP/1.1 has a key.
    assert.ok(!('sec-websocket-accept' in head));
    this.protocol = head['sec-websocket-protocol'] ?? '';
    this.sender = new WebSocket.Sender(this.stream);
    const receiver = new WebSocket.Receiver({ isServer: false });
    receiver.on('message', (data, isBinary) => this.emit('message', data, isBinary));
    receiver.on('conclude', (code, reason) => {
      [this.code, this.reason] = [code, reason];
      this.close(code, reason);
      this.stream.end();
    });
    this.stream.on('data', (chunk) => receiver.write(chunk));
    this.stream.on('end', () => this.stream.end());
    this.emit('open');
  }

  send(data) {
    const binary = typeof data !== 'string';
    this.sender.send(data, { binary, fin: true, compress: false, mask: true });
  }

  close(code, reason) {
    if (!this.isClosing) this.sender.close(code, reason, true);
    this.isClosing = true;
  }
}

const KINDS = {
  http1: (url, protocols, options) => new WebSocket(url.replace('http:', 'ws:'), protocols, options),
  http2: (url, protocols, options) => new Http2WebSocket(url, protocols, options),
};

const [kind, base, name] = process.argv.slice(2);

async function open(path, protocols = [], options = {}) {
  const socket = KINDS[kind](base + path, protocols, options);
  await once(socket, 'open');
  return socket;
}

async function expectEcho(socket, message) {
  const received = once(socket, 'message');
  socket.send(message);
  const [data, isBinary] = await received;
  assert.strictEqual(isBinary, typeof message !== 'string');
  assert.ok(data.equals(Buffer.from(message)), `${message.length} bytes`);
}

async function expectClosed(socket, code, reason) {
  const [seen, why] = await once(socket, 'close');
  assert.deepStrictEqual([seen, why.toString()], [code, reason]);
}

const CASES = {
  async echo() {
    const socket = await open('/', ['other', 'echo']);
    assert.strictEqual(socket.protocol, 'echo');
    for (const length of [0, 1, 125, 126, 65535, 65536, 1000000]) {
      await expectEcho(socket, Buffer.alloc(length, length));
      await expectEcho(socket, 'ü'.repeat(length));
    }
    // Many messages in flight in both directions.
    let received = 0;
    const all = new Promise((resolve) => {
      socket.on('message', (data) => {
        assert.strictEqual(data.toString(), `message ${received}`);
        received += 1;
        if (received === 1000) resolve();
      });
    });
    for (let number = 0; number < 1000; number += 1) socket.send(`message ${number}`);
    await all;
    socket.close(4001, 'client is done');
    await expectClosed(socket, 4001, 'client is done');
  },

  /** The proxies forward an extension that the endpoints negotiate. */
  async deflate() {
    const socket = await open('/deflate');
    assert.strictEqual(socket.extensions, 'permessage-deflate');
    await expectEcho(socket, 'a'.repeat(1000000));
    socket.close(4001, 'client is done');
    await expectClosed(socket, 4001, 'client is done');
  },

  async serverCloses() {
    const socket = await open('/');
    assert.strictEqual(socket.protocol, '');
    socket.send('close');
    await expectClosed(socket, 4002, 'server is done');
  },

  async serverTerminates() {
    const socket = await open('/');
    socket.send('break');
    await expectClosed(socket, 1006, '');
  },

  async clientTerminates() {
    const socket = await open('/');
    await expectEcho(socket, 'hello');
    if (socket.terminate) socket.terminate();
    else socket.stream.close(http2.constants.NGHTTP2_CANCEL);
    await once(socket, 'close');
  },

  async refused() {
    const socket = KINDS[kind](`${base}/refused`, [], {});
    const [request, response] = await once(socket, 'unexpected-response');
    assert.strictEqual(response.statusCode, 401);
    assert.strictEqual(response.headers['www-authenticate'], 'Basic realm="node"');
    const chunks = [];
    for await (const chunk of response.body ?? response) chunks.push(chunk);
    assert.strictEqual(Buffer.concat(chunks).toString(), 'authentication required\n');
    // Close the connection, which is otherwise kept alive.
    (request.socket ?? request).destroy();
  },

  /** Sends forged forwarding fields, and prints the fields that the server receives. */
  async forwardedFields() {
    const headers = {
      'x-forwarded-for': '192.0.2.7',
      'x-forwarded-host': 'other.test',
      'x-forwarded-proto': 'gopher',
      forwarded: 'for=192.0.2.7',
    };
    const socket = await open('/', [], { headers, localAddress: '127.0.0.5' });
    const received = once(socket, 'message');
    socket.send('head');
    const [data] = await received;
    const seen = JSON.parse(data);
    for (const field of ['host', 'forwarded', ...Object.keys(headers)]) {
      if (field in seen) console.log(`${field}: ${seen[field]}`);
    }
    socket.close(1000);
    await once(socket, 'close');
  },
};

CASES[name]().then(() => console.log(`${name} ok`));
