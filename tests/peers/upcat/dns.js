// DNS through `upcat --udp --length-prefixed`.
//
//     node dns.js server              prints its port; answers queries for A and TXT
//     node dns.js client UPCAT...     forwards the queries of Node's resolver, which is c-ares, to the command
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const dgram = require('node:dgram');
const { Resolver } = require('node:dns/promises');
const { once } = require('node:events');

// RFC 1035 §3.2.2 and §4.1.1.
const A = 1;
const NAME_ERROR = 3;
// 1,004 bytes of data. A resolver asks again over TCP only if the answer has the flag TC.
const TEXTS = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(250));

/** Answers a query for a name whose first label is `host-NUMBER`: A with 192.0.2.NUMBER, TXT with TEXTS. */
function answer(query) {
  const end = query.indexOf(0, 12) + 5; // after the name, its type and class
  const type = query.readUInt16BE(end - 4);
  const label = query.toString('latin1', 13, 13 + query[12]).toLowerCase();
  const host = /^host-(\d+)$/.exec(label);
  const data = type === A
    ? Buffer.from([192, 0, 2, Number(host?.[1])])
    : Buffer.concat(TEXTS.map((text) => Buffer.from([text.length, ...Buffer.from(text)])));
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2); // the id
  header.writeUInt16BE(0x8180 | (host ? 0 : NAME_ERROR), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(host ? 1 : 0, 6);
  const question = query.subarray(12, end);
  if (!host) {
    return Buffer.concat([header, question]);
  }
  const record = Buffer.alloc(12);
  record.writeUInt16BE(0xc00c, 0); // the name of the question
  record.writeUInt16BE(type, 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt16BE(data.length, 10);
  return Buffer.concat([header, question, record, data]);
}

async function bound() {
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

async function server() {
  const socket = await bound();
  socket.on('message', (query, from) => socket.send(answer(query), from.port, from.address));
  console.log(socket.address().port);
}

/** Returns a socket that forwards queries to the command, and its answers to the ports of the queries. */
async function forwarder(process) {
  const socket = await bound();
  const ports = new Map();
  socket.on('message', (query, from) => {
    ports.set(query.readUInt16BE(0), from.port);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(query.length);
    process.stdin.write(Buffer.concat([length, query]));
  });
  let unread = Buffer.alloc(0);
  process.stdout.on('data', (read) => {
    unread = Buffer.concat([unread, read]);
    while (unread.length >= 2 && unread.length >= 2 + unread.readUInt16BE(0)) {
      const end = 2 + unread.readUInt16BE(0);
      socket.send(unread.subarray(2, end), ports.get(unread.readUInt16BE(2)), '127.0.0.1');
      unread = unread.subarray(end);
    }
  });
  return socket;
}

async function client([command, ...args]) {
  const upcat = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const socket = await forwarder(upcat);
  const resolver = new Resolver({ tries: 10 });
  resolver.setServers([`127.0.0.1:${socket.address().port}`]);

  assert.deepStrictEqual(await resolver.resolve4('host-1.example'), ['192.0.2.1']);
  assert.deepStrictEqual(await resolver.resolveTxt('host-1.example'), [TEXTS]);
  await assert.rejects(resolver.resolve4('missing.example'), { code: 'ENOTFOUND' });
  const hosts = Array.from({ length: 100 }, (_, host) => host);
  const found = await Promise.all(hosts.map((host) => resolver.resolve4(`host-${host}.example`)));
  assert.deepStrictEqual(found, hosts.map((host) => [`192.0.2.${host}`]));

  // Answers to repeated queries can arrive until the command exits.
  upcat.stdin.end();
  const [code] = await once(upcat, 'close');
  assert.strictEqual(code, 0);
  socket.close();
  console.log('dns ok');
}

const [, , role, ...args] = process.argv;
role === 'server' ? server() : client(args);
