// Runs every operation of the npm package memcached: driver.js HOST PORT text.
'use strict';

const util = require('util');
const Memcached = require('memcached');
const { Transcript, random, MIB, LONGEST, COMPRESSIBLE, EVERY_BYTE } = require('../transcript/transcript.js');

if (process.argv[2] === '--version') {
  console.log(require('memcached/package.json').version);
  process.exit();
}
const [host, port] = process.argv.slice(2);
const run = new Transcript(host, port);
const step = run.step.bind(run);

// connect returns a client whose operations return promises.
function connect(options) {
  const client = new Memcached(`${host}:${port}`, { timeout: 10000, maxValue: 2 * MIB, ...options });
  return new Proxy(client, {
    get: (target, name) => (name === 'end' ? () => target.end() : util.promisify(target[name]).bind(target)),
  });
}

async function main() {
  const c = connect();
  await c.set('e:set', 'v', 2);
  await c.add('e:add', 'v', 2);
  await c.set('e:touch', 'v', 0);
  await step('touch.hit', () => c.touch('e:touch', 2));
  await step('touch.miss', () => c.touch('absent', 2));
  await c.set('e:long', 'v', 300);
  await step('expiry.far', () => c.get('e:long'));

  const values = {
    text: 'value', empty: '', bytes: EVERY_BYTE, integer: 42, true: true, list: [1, 'two'], object: { a: 1.5 },
    unicode: '\u4f60\u597d',
  };
  for (const [name, value] of Object.entries(values)) {
    await step(`set.${name}`, () => c.set(`v:${name}`, value, 0));
    await step(`get.${name}`, () => c.get(`v:${name}`));
  }
  await step('get.miss', () => c.get('absent'));

  await step('add.stored', () => c.add('a', '1', 0));
  await step('add.refused', () => c.add('a', '2', 0));
  await step('replace.refused', () => c.replace('absent', '1', 0));
  await step('replace.stored', () => c.replace('a', '3', 0));
  await step('append.refused', () => c.append('absent', '1'));
  await step('append.stored', () => c.append('a', '4'));
  await step('prepend.refused', () => c.prepend('absent', '1'));
  await step('prepend.stored', () => c.prepend('a', '2'));
  await step('prepend.get', () => c.get('a'));

  await step('incr.miss', () => c.incr('absent', 1));
  await c.set('n', '10', 0);
  await step('incr.one', () => c.incr('n', 1));
  await step('incr.many', () => c.incr('n', 1000));
  await step('decr.one', () => c.decr('n', 1));
  await step('decr.below', () => c.decr('n', 100000));
  await step('decr.miss', () => c.decr('absent', 1));
  await c.set('a:text', 'text', 0);
  await step('incr.text', () => c.incr('a:text', 1));
  await step('incr.after', () => c.get('n'));

  await c.set('c', '1', 0);
  const { cas } = await c.gets('c');
  await step('gets.hit', () => c.gets('c'));
  await step('gets.miss', () => c.gets('absent'));
  await step('cas.stored', () => c.cas('c', '2', cas, 0));
  await step('cas.conflict', () => c.cas('c', '3', cas, 0));
  await step('cas.get', () => c.get('c'));
  await step('cas.miss', () => c.cas('absent', '1', cas, 0));

  await step('delete.hit', () => c.del('c'));
  await step('delete.miss', () => c.del('c'));

  const keys = Array.from({ length: 100 }, (_, i) => `m:${i}`);
  await step('parallel.set', () => Promise.all(keys.filter((_, i) => i % 2 === 0).map((k) => c.set(k, k.repeat(3), 0))));
  await step('multi-get', () => c.getMulti(keys));
  await step('multi-get.none', () => c.getMulti(['absent1', 'absent2']));
  await step('parallel.get', () => Promise.all(keys.map((k) => c.get(k))));
  await step('parallel.delete', () => Promise.all(keys.slice(0, 10).map((k) => c.del(k))));

  // The client sends text in UTF-8, also what is in a Buffer. It gives up a server that refuses a value.
  const text = (seed, length) => random(seed, length).toString('base64').slice(0, length);
  await step('large.fits', () => c.set('l', text(1, MIB - 1024), 0));
  await step('large.get', () => c.get('l'));
  const refused = connect();
  await step('large.refused', () => refused.set('l', text(2, MIB + 1), 0));
  refused.end();
  await step('large.after', () => c.get('v:text'));
  await step('large.stale', () => c.get('l'));
  await step('large.compressible', () => c.set('z', COMPRESSIBLE, 0));
  await step('large.compressible-get', () => c.get('z'));

  await step('key.longest', () => c.set(LONGEST, 'v', 0));
  await step('key.longest-get', () => c.get(LONGEST));
  await step('key.too-long', () => c.set(LONGEST + 'k', 'v', 0));
  await step('key.space', () => c.set('a b', 'v', 0));
  await step('key.control', () => c.set('a\nb', 'v', 0));
  await step('key.empty', () => c.set('', 'v', 0));
  await step('key.unicode', () => c.set('\u4f60\u597d', 'v', 0));
  await step('key.unicode-get', () => c.get('\u4f60\u597d'));
  await step('key.namespace', () => connect({ namespace: 'm:' }).get('20'));
  await step('key.after', () => c.get('v:text'));

  await step('stats', async () => run.statsNames((await c.stats())[0]));
  await step('stats.settings', async () => 'maxconns' in (await c.settings())[0]);
  await step('version', async () => /^\d+\.\d+/.test((await c.version())[0].version));

  for (const name of ['set', 'add', 'touch']) {
    await run.until(`expiry.${name}`, async () => (await c.get(`e:${name}`)) === undefined);
  }
  await step('flush_all', () => c.flush());
  await step('flush_all.get', () => c.get('v:text'));

  await run.failover({
    get: (key) => c.get(key),
    set: (key, value) => c.set(key, value, 0),
    incr: (key) => c.incr(key, 1),
    append: (key, value) => c.append(key, value),
    delete: (key) => c.del(key),
  });
  c.end();
  process.exit();
}

main();
