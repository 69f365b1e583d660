// Sessions over HTTP/2 with Node's built-in client: extended CONNECT (RFC 8441) and CONNECT.
//
//     node extended_connect.js http://127.0.0.1:3000 [CASE]..
//
// The server is `examples/echo.rs`. Without a CASE the script runs all cases that do not need a server shutdown.
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const http2 = require('node:http2');

const ECHO = { ':method': 'CONNECT', ':protocol': 'echo', ':path': '/' };
const TUNNEL = { ':method': 'CONNECT', ':authority': 'example.com:443' };
// Fields of HTTP/1.1 (RFC 9113 §8.2.2), and `content-length`, which an upgrade response does not have.
const FOREIGN = ['upgrade', 'connection', 'content-length', 'transfer-encoding'];

/** Opens a connection to a server that has enabled extended CONNECT. */
async function connect(url) {
  // The server has a self-signed certificate.
  const tls = { rejectUnauthorized: false, servername: 'localhost' };
  const connection = http2.connect(url, tls);
  const [settings] = await once(connection, 'remoteSettings');
  assert.strictEqual(settings.enableConnectProtocol, true);
  assert.strictEqual(connection.alpnProtocol, url.startsWith('https:') ? 'h2' : 'h2c');
  return connection;
}

/** Closes a connection without open streams. */
async function close(connection) {
  connection.close();
  await once(connection, 'close');
}

/** A stream with a read buffer. */
class Session {
  static async open(connection, head, status = 200) {
    const stream = connection.request(head, { endStream: false });
    stream.setEncoding('utf8');
    const [response] = await once(stream, 'response');
    assert.strictEqual(response[':status'], status);
    if (status === 200) {
      for (const name of FOREIGN) assert.ok(!(name in response), name);
    }
    return new Session(stream);
  }

  constructor(stream) {
    this.stream = stream;
    this.chunks = stream[Symbol.asyncIterator]();
    this.unread = '';
  }

  /** Writes, and expects the echo. */
  async echo(text) {
    this.stream.write(text);
    assert.strictEqual(await this.exactly(text.length), text);
  }

  async exactly(length) {
    while (this.unread.length < length) {
      const { value, done } = await this.chunks.next();
      assert.ok(!done, `the end after ${this.unread}`);
      this.unread += value;
    }
    const text = this.unread.slice(0, length);
    this.unread = this.unread.slice(length);
    return text;
  }

  /** Reads to EOF. The iterator throws on a reset. */
  async rest() {
    let text = this.unread;
    for await (const chunk of this.chunks) text += chunk;
    assert.strictEqual(this.stream.rstCode, http2.constants.NGHTTP2_NO_ERROR);
    return text;
  }

  /** Writes the last bytes, and expects their echo and EOF. */
  async finish(text) {
    this.stream.end(text);
    assert.strictEqual(await this.rest(), text);
  }
}

async function exchange(url, head) {
  const connection = await connect(url);
  const session = await Session.open(connection, head);
  for (const text of ['hello', 'a', 'x'.repeat(300_000), 'bye']) await session.echo(text);
  await session.finish('the last bytes');
  await close(connection);
}

const CASES = {
  extendedConnect: (url) => exchange(url, ECHO),

  connect: (url) => exchange(url, TUNNEL),

  async refused(url) {
    const connection = await connect(url);
    const unknown = await Session.open(connection, { ...ECHO, ':protocol': 'unknown' }, 501);
    unknown.stream.end();
    await unknown.rest();
    const portless = await Session.open(connection, { ...TUNNEL, ':authority': 'portless' }, 400);
    portless.stream.end();
    await portless.rest();
    // The connection stays open.
    await (await Session.open(connection, ECHO)).finish('hello');
    await close(connection);
  },

  async parallel(url) {
    const connection = await connect(url);
    const heads = Array.from({ length: 50 }, (_, i) => (i % 2 ? ECHO : TUNNEL));
    const sessions = await Promise.all(heads.map((head) => Session.open(connection, head)));
    await Promise.all(sessions.map(async (session, i) => {
      for (let turn = 0; turn < 10; turn++) await session.echo(`${i} in turn ${turn};`.repeat(100));
      await session.finish(`${i} is done`);
    }));
    await close(connection);
  },

  // A session that stops reading does not block other sessions of the connection.
  async stalled(url) {
    const connection = await connect(url);
    const stalled = connection.request(ECHO, { endStream: false });
    stalled.write('x'.repeat(8 * 1024 * 1024));
    const session = await Session.open(connection, ECHO);
    for (let turn = 0; turn < 200; turn++) await session.echo('x'.repeat(16 * 1024));
    await session.finish('bye');
    stalled.close(http2.constants.NGHTTP2_CANCEL);
    await once(stalled, 'close');
    await close(connection);
  },

  // When the server shuts down, it ends the sessions and then the connection.
  async stopped(url) {
    const connection = await connect(url);
    const sessions = [await Session.open(connection, ECHO), await Session.open(connection, TUNNEL)];
    for (const session of sessions) await session.echo('hello');
    const goaway = once(connection, 'goaway');
    const closed = once(connection, 'close');
    console.log('open');
    for (const session of sessions) {
      assert.strictEqual(await session.rest(), '');
      session.stream.end();
    }
    assert.strictEqual((await goaway)[0], http2.constants.NGHTTP2_NO_ERROR);
    await closed;
  },
};

async function main([url, ...names]) {
  if (names.length === 0) names = Object.keys(CASES).filter((name) => name !== 'stopped');
  for (const name of names) {
    await CASES[name](url);
    console.log(`${name} ok`);
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
