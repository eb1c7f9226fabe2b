<?php
// Runs every operation of php-memcached: driver.php HOST PORT text|binary.
//
// A step is one line: `ok NAME RESULT`, or `error NAME MESSAGE` when the client
// says that something other than a miss or a refusal came of it.

if (($argv[1] ?? '') === '--version') {
    echo phpversion('memcached'), "\n";
    exit;
}
[, $host, $port, $protocol] = $argv;

const MIB = 1048576;

function connect(array $options = []): Memcached
{
    global $host, $port, $protocol;
    $c = new Memcached();
    $c->setOptions($options + [
        Memcached::OPT_BINARY_PROTOCOL => $protocol === 'binary',
        Memcached::OPT_TCP_NODELAY => true,
        Memcached::OPT_RECV_TIMEOUT => 10000000,
        Memcached::OPT_SEND_TIMEOUT => 10000000,
        Memcached::OPT_POLL_TIMEOUT => 10000,
    ]);
    $c->addServer($host, (int) $port);
    return $c;
}

function show(mixed $value): string
{
    if (is_string($value) && strlen($value) > 60) {
        return sprintf('%d-bytes-%08x', strlen($value), crc32($value));
    }
    if (is_array($value)) {
        ksort($value, SORT_STRING);
        $parts = [];
        foreach ($value as $k => $v) {
            $parts[] = $k . ': ' . show($v);
        }
        return '[' . implode(', ', $parts) . ']';
    }
    if (is_object($value)) {
        return get_class($value) . show(get_object_vars($value));
    }
    return is_string($value) ? "'" . addcslashes($value, "\0..\37!@\177..\377") . "'" : var_export($value, true);
}

function step(string $name, Memcached $c, mixed $result): mixed
{
    global $host, $port;
    $code = $c->getResultCode();
    $message = str_replace("$host:$port", 'SERVER', $c->getResultMessage());
    $kind = in_array($code, [
        Memcached::RES_SUCCESS, Memcached::RES_NOTFOUND, Memcached::RES_NOTSTORED, Memcached::RES_DATA_EXISTS,
        Memcached::RES_END, Memcached::RES_BUFFERED,
    ]) ? 'ok' : 'error';
    echo "$kind $name ", show($result), " ($message)\n";
    return $result;
}

function until(string $name, callable $cond): void
{
    for ($end = microtime(true) + 8; !$cond(); usleep(50000)) {
        if (microtime(true) > $end) {
            echo "error $name it did not happen\n";
            return;
        }
    }
    echo "ok $name yes\n";
}

function random(int $seed, int $length): string
{
    mt_srand($seed);
    $bytes = '';
    while (strlen($bytes) < $length) {
        $bytes .= pack('V', mt_rand());
    }
    return substr($bytes, 0, $length);
}

$c = connect();
$c->set('f', '1');
// What is written in the second of the flush is flushed too, and each server has seconds of its own:
// so this comes long before the failover.
step('flush_all.delayed', $c, $c->flush(2));
until('flush_all.delayed-get', fn () => $c->get('f') === false);
until('flush_all.settled', fn () => $c->set('f', '2') && $c->get('f') === '2');

$c->set('e:set', 'v', 2);
$c->add('e:add', 'v', 2);
$c->set('e:touch', 'v');
step('touch.hit', $c, $c->touch('e:touch', 2));
step('touch.miss', $c, $c->touch('absent', 2));
$c->set('e:long', 'v', 300);
step('expiry.far', $c, $c->get('e:long'));
step('expiry.past', $c, $c->set('e:long', 'v', 1000000000));
step('expiry.past-get', $c, $c->get('e:long'));

$object = new stdClass();
$object->a = 1.5;
$values = [
    'text' => 'value', 'empty' => '', 'bytes' => implode('', array_map('chr', range(0, 255))) . "\r\nEND\r\n",
    'integer' => 42, 'true' => true, 'float' => 1.5, 'null' => null, 'list' => [1, 'two'], 'object' => $object,
    'unicode' => "\u{4f60}\u{597d}",
];
foreach ($values as $name => $value) {
    step("set.$name", $c, $c->set("v:$name", $value));
    step("get.$name", $c, $c->get("v:$name"));
}
step('get.miss', $c, $c->get('absent'));
step('get.callback', $c, $c->get('absent2', function ($c, $key, &$value) {
    $value = 'made';
    return true;
}));
step('get.made', $c, $c->get('absent2'));

step('add.stored', $c, $c->add('a', '1'));
step('add.refused', $c, $c->add('a', '2'));
step('replace.refused', $c, $c->replace('absent', '1'));
step('replace.stored', $c, $c->replace('a', '3'));
$p = connect([Memcached::OPT_COMPRESSION => false]);
step('append.refused', $p, $p->append('absent', '1'));
step('append.stored', $p, $p->append('a', '4'));
step('prepend.refused', $p, $p->prepend('absent', '1'));
step('prepend.stored', $p, $p->prepend('a', '2'));
step('prepend.get', $p, $p->get('a'));

step('incr.miss', $c, $c->increment('absent'));
$c->set('n', 10);
step('incr.one', $c, $c->increment('n'));
step('incr.many', $c, $c->increment('n', 1000));
step('decr.one', $c, $c->decrement('n'));
step('decr.below', $c, $c->decrement('n', 100000));
step('decr.miss', $c, $c->decrement('absent'));
if ($protocol === 'binary') {
    // The client has initial values with the binary protocol only.
    step('incr.initial', $c, $c->increment('i', 1, 7, 300));
    step('incr.initial-again', $c, $c->increment('i', 1, 7));
    step('decr.initial', $c, $c->decrement('d', 1, 7, 300));
    step('decr.initial-again', $c, $c->decrement('d', 1, 7));
    $c->decrement('short', 1, 7, 2);
    until('expiry.decr', fn () => $c->get('short') === false);
}
$c->set('a:text', 'text');
step('incr.text', $c, $c->increment('a:text'));

$c->set('c', '1');
$got = $c->get('c', null, Memcached::GET_EXTENDED);
step('gets.hit', $c, $got['value']);
step('gets.miss', $c, $c->get('absent', null, Memcached::GET_EXTENDED));
step('cas.stored', $c, $c->cas($got['cas'], 'c', '2'));
step('cas.conflict', $c, $c->cas($got['cas'], 'c', '3'));
step('cas.get', $c, $c->get('c'));
step('cas.miss', $c, $c->cas($got['cas'], 'absent', '1'));

step('delete.hit', $c, $c->delete('c'));
step('delete.miss', $c, $c->delete('c'));

$keys = array_map(fn ($i) => "m:$i", range(0, 99));
$items = [];
for ($i = 0; $i < 100; $i += 2) {
    $items["m:$i"] = str_repeat("m:$i", 3);
}
step('multi-set', $c, $c->setMulti($items));
step('multi-get', $c, $c->getMulti($keys));
step('multi-get.none', $c, $c->getMulti(['absent1', 'absent2']));
step('multi-get.order', $c, array_slice($c->getMulti($keys, Memcached::GET_PRESERVE_ORDER), 0, 5));
step('multi-gets', $c, array_column($c->getMulti($keys, Memcached::GET_EXTENDED), 'value'));
step('multi-get.delayed', $c, $c->getDelayed($keys, false));
$delayed = array_column($c->fetchAll(), 'value', 'key');
step('multi-get.fetched', $c, $delayed);
$c->getDelayed(['m:2'], false);
// With the binary protocol the token is among what is fetched.
step('multi-get.fetch', $c, array_diff_key($c->fetch(), ['cas' => true]));
step('multi-get.fetch-end', $c, $c->fetch());
step('multi-delete', $c, $c->deleteMulti(array_slice($keys, 0, 10)));
step('multi-delete.get', $c, $c->getMulti(array_slice($keys, 0, 20)));

step('by-key.set', $c, $c->setByKey('server', 'k', '1'));
step('by-key.get', $c, $c->getByKey('server', 'k'));
step('by-key.touch', $c, $c->touchByKey('server', 'k', 300));
step('by-key.incr', $c, $c->incrementByKey('server', 'k'));
step('by-key.delete', $c, $c->deleteByKey('server', 'k'));

$large = random(1, MIB - 1024);
$tooLarge = random(2, MIB + 1);
step('large.fits', $c, $c->set('l', $large));
step('large.get', $c, $c->get('l'));
step('large.refused', $c, $c->set('l', $tooLarge));
step('large.after', $c, $c->get('v:text'));
step('large.stale', $c, $c->get('l'));
$compressible = str_repeat('the same words again and again ', 8000);
step('compression.set', $c, $c->set('z', $compressible));
step('compression.get', $c, $c->get('z'));

$longest = str_repeat('k', 250);
step('key.longest', $c, $c->set($longest, 'v'));
step('key.longest-get', $c, $c->get($longest));
step('key.too-long', $c, $c->set($longest . 'k', 'v'));
step('key.space', $c, $c->set('a b', 'v'));
step('key.control', $c, $c->set("a\nb", 'v'));
step('key.empty', $c, $c->set('', 'v'));
step('key.unicode', $c, $c->set("\u{4f60}\u{597d}", 'v'));
step('key.unicode-get', $c, $c->get("\u{4f60}\u{597d}"));
$prefixed = connect([Memcached::OPT_PREFIX_KEY => 'm:']);
step('key.prefix', $prefixed, $prefixed->get('20'));
step('key.after', $c, $c->get('v:text'));

$q = connect([Memcached::OPT_NOREPLY => true, Memcached::OPT_COMPRESSION => false]);
$q->set('q', '1');
$q->append('q', '2');
$q->add('q', '3');
$q->delete('a');
$q->quit();
until('noreply.set', fn () => $c->get('q') === '12');
until('noreply.delete', fn () => $c->get('a') === false);
$b = connect([Memcached::OPT_BUFFER_WRITES => true]);
step('buffered.set', $b, $b->set('b', '1'));
step('buffered.flush', $b, $b->flushBuffers());
step('buffered.get', $b, $b->get('b'));
$n = connect([Memcached::OPT_NO_BLOCK => true]);
step('unblocked.set', $n, $n->set('u', '1'));
step('unblocked.get', $n, $n->get('u'));

$wanted = ['pid', 'uptime', 'version', 'curr_connections', 'cmd_get', 'cmd_set', 'get_hits'];
step('stats', $c, array_values(array_intersect($wanted, array_keys($c->getStats()["$host:$port"]))));
step('version', $c, preg_match('/^\d+\.\d+/', $c->getVersion()["$host:$port"]));

foreach (['set', 'add', 'touch'] as $name) {
    until("expiry.$name", fn () => $c->get("e:$name") === false);
}
step('flush_all', $c, $c->flush());
step('flush_all.get', $c, $c->get('v:text'));

// What is on two servers survives the death of one.
$c = $p;
until('failover.ready', fn () => $c->set('fo:value', 'before') && $c->get('fo:value') === 'before');
$c->set('fo:number', 41);
$c->set('fo:text', 'a');
$c->set('fo:deleted', 'here');
echo "ready\n";
fgets(STDIN);
$outcome = function (string $name, mixed $result) use ($c): void {
    echo 'ok failover.', $name, ' ', $result === false ? 'false: ' . $c->getResultMessage() : $result, "\n";
};
$outcome('read', $c->get('fo:value'));
$outcome('incr', $c->increment('fo:number'));
$outcome('incr-again', $c->increment('fo:number'));
$outcome('append', $c->append('fo:text', 'b') ? $c->get('fo:text') : false);
$outcome('write', $c->set('fo:value', 'after') ? $c->get('fo:value') : false);
$outcome('delete', $c->delete('fo:deleted') ? ($c->get('fo:deleted') ?: 'gone') : false);
$c->quit();
