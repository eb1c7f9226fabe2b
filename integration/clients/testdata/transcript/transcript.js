// What the drivers of the JavaScript clients have in common. A step is one
// line: `ok NAME RESULT`, or `error NAME MESSAGE`.
'use strict';

const crypto = require('crypto');
const readline = require('readline');

const MIB = 1024 * 1024;
const PATIENCE = 8000; // milliseconds, as is the pause
const PAUSE = 50;

function show(value) {
  if (typeof value === 'string') {
    value = Buffer.from(value);
  }
  if (Buffer.isBuffer(value)) {
    if (value.length > 60) {
      return `${value.length}-bytes-${crypto.createHash('md5').update(value).digest('hex').slice(0, 8)}`;
    }
    return `'${value.toString('latin1').replace(/[^ -~]/g, (c) => `\\x${c.charCodeAt(0).toString(16)}`)}'`;
  }
  if (Array.isArray(value)) {
    return `[${value.map(show).join(', ')}]`;
  }
  if (value !== null && typeof value === 'object') {
    // A token differs from server to server.
    const names = Object.keys(value).filter((name) => name !== 'cas').sort();
    return `{${names.map((name) => `${name}: ${show(value[name])}`).join(', ')}}`;
  }
  return String(value);
}

function random(seed, length) {
  return crypto.createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(length));
}

class Transcript {
  constructor(host, port) {
    this.server = `${host}:${port}`;
  }

  line(kind, name, text) {
    console.log(`${kind} ${name} ${text.replaceAll(this.server, 'SERVER').replace(/\s+/g, ' ')}`.trim());
  }

  async step(name, call) {
    let result;
    try {
      result = await call();
    } catch (e) {
      this.line('error', name, e && e.message ? e.message : String(e));
      return undefined;
    }
    this.line('ok', name, show(result));
    return result;
  }

  async until(name, cond) {
    for (const end = Date.now() + PATIENCE; !(await cond()); ) {
      if (Date.now() > end) {
        this.line('error', name, 'it did not happen');
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    this.line('ok', name, 'yes');
  }

  // What is on two servers survives the death of one. The client has get, set, incr, append and delete.
  async failover(client) {
    await this.until('failover.ready', async () => (await client.set('fo:value', 'before')) && (await client.get('fo:value')) === 'before');
    await client.set('fo:number', '41');
    await client.set('fo:text', 'a');
    await client.set('fo:deleted', 'here');
    console.log('ready');
    await new Promise((resolve) => readline.createInterface({ input: process.stdin }).once('line', resolve));
    const outcome = async (name, call) => {
      try {
        this.line('ok', `failover.${name}`, String(await call()));
      } catch (e) {
        this.line('error', `failover.${name}`, String(e));
      }
    };
    await outcome('read', () => client.get('fo:value'));
    await outcome('incr', () => client.incr('fo:number'));
    await outcome('incr-again', () => client.incr('fo:number'));
    await outcome('append', async () => (await client.append('fo:text', 'b')) && client.get('fo:text'));
    await outcome('write', async () => (await client.set('fo:value', 'after')) && client.get('fo:value'));
    await outcome('delete', async () => (await client.delete('fo:deleted')) && ((await client.get('fo:deleted')) || 'gone'));
  }

  statsNames(stats) {
    return ['pid', 'uptime', 'version', 'curr_connections', 'cmd_get', 'cmd_set', 'get_hits'].filter((name) => name in stats);
  }
}

module.exports = {
  Transcript,
  random,
  MIB,
  LONGEST: 'k'.repeat(250),
  COMPRESSIBLE: 'the same words again and again '.repeat(8000),
  EVERY_BYTE: Buffer.concat([Buffer.from(Array.from({ length: 256 }, (_, i) => i)), Buffer.from('\r\nEND\r\n')]),
};
