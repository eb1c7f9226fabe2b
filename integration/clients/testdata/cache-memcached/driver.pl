#!/usr/bin/perl
# Runs every operation of Cache::Memcached: driver.pl HOST PORT text.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../transcript";
use Cache::Memcached;
use Transcript;

if (@ARGV == 1 && $ARGV[0] eq '--version') {
    print "$Cache::Memcached::VERSION\n";
    exit;
}
my ($host, $port) = @ARGV;

sub connected {
    return Cache::Memcached->new({servers => ["$host:$port"], select_timeout => 10, @_});
}

my $c = connected(compress_threshold => 10_000);
$c->set('e:set', 'v', 2);
$c->add('e:add', 'v', 2);
$c->set('e:long', 'v', 300);
step 'expiry.far', sub { $c->get('e:long') };

my %values = (
    text => 'value', empty => '', bytes => EVERY_BYTE, integer => 42, float => 1.5, list => [1, 'two'],
    hash => {a => 1},
);
for my $name (sort keys %values) {
    step "set.$name", sub { $c->set("v:$name", $values{$name}) };
    step "get.$name", sub { $c->get("v:$name") };
}
step 'get.miss', sub { $c->get('absent') };

step 'add.stored',      sub { $c->add('a', '1') };
step 'add.refused',     sub { $c->add('a', '2') };
step 'replace.refused', sub { $c->replace('absent', '1') };
step 'replace.stored',  sub { $c->replace('a', '3') };
step 'append.refused',  sub { $c->append('absent', '1') };
step 'append.stored',   sub { $c->append('a', '4') };
step 'prepend.refused', sub { $c->prepend('absent', '1') };
step 'prepend.stored',  sub { $c->prepend('a', '2') };
step 'prepend.get',     sub { $c->get('a') };

step 'incr.miss', sub { $c->incr('absent') };
$c->set('n', 10);
step 'incr.one',   sub { $c->incr('n') };
step 'incr.many',  sub { $c->incr('n', 1000) };
step 'decr.one',   sub { $c->decr('n') };
step 'decr.below', sub { $c->decr('n', 100_000) };
step 'decr.miss',  sub { $c->decr('absent') };
$c->set('n', '18446744073709551615');
step 'incr.wrap', sub { $c->incr('n', 2) };
$c->set('a:text', 'text');
step 'incr.text',  sub { $c->incr('a:text') };
step 'incr.after', sub { $c->get('n') };

$c->set('c', '1');
step 'delete.hit',  sub { $c->delete('c') };
step 'delete.miss', sub { $c->delete('c') };

my @keys = map { "m:$_" } 0 .. 99;
$c->set("m:$_", "m:$_" x 3) for grep { $_ % 2 == 0 } 0 .. 99;
step 'multi-get',      sub { $c->get_multi(@keys) };
step 'multi-get.none', sub { $c->get_multi('absent1', 'absent2') };
step 'multi-get.hashed', sub { $c->get_multi([1, 'm:2'], [2, 'm:4']) };

my ($large, $too_large) = (random(1, MIB - 1024), random(2, MIB + 1));
my $plain = connected();
step 'large.fits',    sub { $plain->set('l', $large) };
step 'large.get',     sub { $plain->get('l') };
step 'large.refused', sub { $plain->set('l', $too_large) };
step 'large.after',   sub { $plain->get('v:text') };
step 'large.stale',   sub { $plain->get('l') };
step 'compression.set', sub { $c->set('z', COMPRESSIBLE) };
step 'compression.get', sub { $c->get('z') };

step 'key.longest',     sub { $c->set(LONGEST, 'v') };
step 'key.longest-get', sub { $c->get(LONGEST) };
# The client checks no key: a bad one breaks the line, and its connection with it.
# An answer that it does not know is one that it waits for until the time is over.
my $impatient = sub { connected(select_timeout => 1) };
step 'key.too-long-get', sub { $impatient->()->get(LONGEST . 'k') };
step 'key.too-long',     sub { connected()->set(LONGEST . 'k', 'v') };
step 'key.space',        sub { connected()->set('a b', 'v') };
step 'key.unicode',      sub { $c->set("\xe4\xbd\xa0", 'v') };
step 'key.unicode-get',  sub { $c->get("\xe4\xbd\xa0") };
step 'key.namespace',    sub { connected(namespace => 'm:')->get('20') };
step 'key.after',        sub { $c->get('v:text') };

# Without somebody who wants the result there is none, but the answer is read.
$c->set('q', '1');
$c->append('q', '2');
$c->delete('a');
step 'void.get',    sub { $c->get('q') };
step 'void.delete', sub { $c->get('a') };

step 'stats', sub { stats_names($c->stats('misc')->{hosts}{"$host:$port"}{misc}) };
step 'stats.reset', sub { $impatient->()->stats_reset('misc') };
step 'version', sub { $c->stats('misc')->{hosts}{"$host:$port"}{misc}{version} =~ /^\d+\.\d+/ ? 'number' : 'no number' };

for my $name (qw(set add)) {
    wait_until "expiry.$name", sub { !defined $c->get("e:$name") };
}
step 'flush_all',     sub { $c->flush_all };
step 'flush_all.get', sub { $c->get('v:text') };
failover($c);
$c->disconnect_all;
