// Runs every operation of memjs: driver.js HOST PORT binary.
'use strict';

const memjs = require('memjs');
const { Transcript, random, MIB, LONGEST, COMPRESSIBLE, EVERY_BYTE } = require('../transcript/transcript.js');

if (process.argv[2] === '--version') {
  console.log(require('memjs/package.json').version);
  process.exit();
}
const [host, port] = process.argv.slice(2);
const run = new Transcript(host, port);
const step = run.step.bind(run);

function connect(options) {
  const silent = { log() {} };
  return memjs.Client.create(`${host}:${port}`, { timeout: 10, conntimeout: 10, retries: 2, logger: silent, ...options });
}

async function main() {
  const c = connect();
  await c.set('e:set', 'v', { expires: 2 });
  await c.add('e:add', 'v', { expires: 2 });
  await c.set('e:touch', 'v', {});
  await c.increment('e:incr', 1, { initial: 5, expires: 2 });
  await step('touch.hit', () => c.touch('e:touch', 2));
  await step('touch.miss', () => c.touch('absent', 2));
  await c.set('e:long', 'v', { expires: 300 });
  await step('expiry.far', () => c.get('e:long'));

  for (const [name, value] of Object.entries({ text: 'value', empty: '', bytes: EVERY_BYTE, unicode: '\u4f60\u597d' })) {
    await step(`set.${name}`, () => c.set(`v:${name}`, value, {}));
    await step(`get.${name}`, () => c.get(`v:${name}`));
  }
  await step('get.miss', () => c.get('absent'));

  await step('add.stored', () => c.add('a', '1', {}));
  await step('add.refused', () => c.add('a', '2', {}));
  await step('replace.refused', () => c.replace('absent', '1', {}));
  await step('replace.stored', () => c.replace('a', '3', {}));
  await step('append.refused', () => c.append('absent', '1'));
  await step('append.stored', () => c.append('a', '4'));
  await step('prepend.refused', () => c.prepend('absent', '1'));
  await step('prepend.stored', () => c.prepend('a', '2'));
  await step('prepend.get', () => c.get('a'));

  await step('incr.initial', () => c.increment('n', 1, { initial: 10 }));
  await step('incr.one', () => c.increment('n', 1, {}));
  await step('incr.many', () => c.increment('n', 1000, {}));
  await step('decr.one', () => c.decrement('n', 1, {}));
  await step('decr.below', () => c.decrement('n', 100000, {}));
  await step('decr.initial', () => c.decrement('d', 1, { initial: 10 }));
  await step('decr.initial-again', () => c.decrement('d', 1, { initial: 10 }));
  await c.set('a:text', 'text', {});
  await step('incr.text', () => c.increment('a:text', 1, {}));

  await step('delete.hit', () => c.delete('a'));
  await step('delete.miss', () => c.delete('a'));

  // Many at once, each with its answer.
  const keys = Array.from({ length: 100 }, (_, i) => `m:${i}`);
  await step('parallel.set', () => Promise.all(keys.filter((_, i) => i % 2 === 0).map((k) => c.set(k, k.repeat(3), {}))));
  await step('parallel.get', async () => (await Promise.all(keys.map((k) => c.get(k)))).map((r) => r.value));
  await step('parallel.incr', async () => {
    await c.set('n', '0', {});
    return (await Promise.all(keys.map(() => c.increment('n', 1, {})))).map((r) => r.value);
  });
  await step('parallel.delete', () => Promise.all(keys.slice(0, 10).map((k) => c.delete(k))));

  await step('large.fits', () => c.set('l', random(1, MIB - 1024), {}));
  await step('large.get', () => c.get('l'));
  await step('large.refused', () => c.set('l', random(2, MIB + 1), {}));
  await step('large.after', () => c.get('v:text'));
  await step('large.stale', () => c.get('l'));
  await step('large.compressible', () => c.set('z', COMPRESSIBLE, {}));
  await step('large.compressible-get', () => c.get('z'));

  await step('key.longest', () => c.set(LONGEST, 'v', {}));
  await step('key.longest-get', () => c.get(LONGEST));
  // The server closes the connection, which this client takes for a silent one.
  const broken = connect();
  await step('key.too-long', () => broken.set(LONGEST + 'k', 'v', {}));
  broken.close();
  await step('key.space', () => c.set('a b', 'v', {}));
  await step('key.space-get', () => c.get('a b'));
  await step('key.control', () => c.set('a\nb', 'v', {}));
  await step('key.control-get', () => c.get('a\nb'));
  await step('key.unicode', () => c.set('\u4f60\u597d', 'v', {}));
  await step('key.unicode-get', () => c.get('\u4f60\u597d'));
  await step('key.after', () => c.get('v:text'));

  const stats = (type) => new Promise((resolve, reject) => {
    const done = (err, server, values) => (err ? reject(err) : resolve(values));
    if (type) {
      c.statsWithKey(type, done);
    } else {
      c.stats(done);
    }
  });
  await step('stats', async () => run.statsNames(await stats()));
  await step('stats.settings', async () => 'maxconns' in (await stats('settings')));
  await step('stats.reset', () => new Promise((resolve, reject) => c.resetStats((err) => (err ? reject(err) : resolve('done')))));
  await step('version', async () => /^\d+\.\d+/.test((await stats()).version));

  for (const name of ['set', 'add', 'touch', 'incr']) {
    await run.until(`expiry.${name}`, async () => (await c.get(`e:${name}`)).value === null);
  }
  await step('flush_all', async () => Object.values(await c.flush()));
  await step('flush_all.get', () => c.get('v:text'));

  const text = async (key) => {
    const { value } = await c.get(key);
    return value === null ? null : value.toString();
  };
  await run.failover({
    get: text,
    set: (key, value) => c.set(key, value, {}),
    incr: async (key) => (await c.increment(key, 1, {})).value,
    append: (key, value) => c.append(key, value),
    delete: (key) => c.delete(key),
  });
  c.quit();
  process.exit();
}

main();
