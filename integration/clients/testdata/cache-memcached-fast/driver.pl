#!/usr/bin/perl
# Runs every operation of Cache::Memcached::Fast: driver.pl HOST PORT text.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../transcript";
use Cache::Memcached::Fast;
use Transcript;

if (@ARGV == 1 && $ARGV[0] eq '--version') {
    print "$Cache::Memcached::Fast::VERSION\n";
    exit;
}
my ($host, $port) = @ARGV;

sub connected {
    return Cache::Memcached::Fast->new({
        servers => [{address => "$host:$port"}], connect_timeout => 10, io_timeout => 10, max_size => 2 * MIB, @_,
    });
}

my $c = connected(compress_threshold => 10_000);
$c->set('f', '1');
# What is written in the second of the flush is flushed too, and each server has seconds of its own:
# so this comes long before the failover.
step 'flush_all.delayed', sub { $c->flush_all(2)->{"$host:$port"} };
wait_until 'flush_all.delayed-get', sub { !defined $c->get('f') };
wait_until 'flush_all.settled', sub { $c->set('f', '2') && defined $c->get('f') };

$c->set('e:set', 'v', 2);
$c->add('e:add', 'v', 2);
$c->set("e:$_", 'v') for qw(touch gat gats);
step 'touch.hit',  sub { $c->touch('e:touch', 2) };
step 'touch.miss', sub { $c->touch('absent', 2) };
step 'gat.hit',    sub { $c->gat(2, 'e:gat') };
step 'gat.miss',   sub { $c->gat(2, 'absent') };
step 'gats.hit',   sub { $c->gats(2, 'e:gats')->[1] };
step 'gats.miss',  sub { $c->gats(2, 'absent') };
$c->set('e:long', 'v', 300);
step 'expiry.far', sub { $c->get('e:long') };
step 'expiry.past', sub { $c->set('e:long', 'v', -1) };
step 'expiry.past-get', sub { $c->get('e:long') };

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
$c->set_multi(['n1', 1], ['n2', 2]);
step 'incr.multi', sub { $c->incr_multi(['n1', 5], 'n2', 'absent') };
step 'decr.multi', sub { $c->decr_multi(['n1', 2], 'n2', 'absent') };

$c->set('c', '1');
my $got = $c->gets('c');
step 'gets.hit',     sub { $got->[1] };
step 'gets.miss',    sub { $c->gets('absent') };
step 'cas.stored',   sub { $c->cas('c', $got->[0], '2') };
step 'cas.conflict', sub { $c->cas('c', $got->[0], '3') };
step 'cas.get',      sub { $c->get('c') };
step 'cas.miss',     sub { $c->cas('absent', $got->[0], '1') };

step 'delete.hit',  sub { $c->delete('c') };
step 'delete.miss', sub { $c->delete('c') };

my @keys = map { "m:$_" } 0 .. 99;
my @even = grep { $_ % 2 == 0 } 0 .. 99;
step 'multi-set',      sub { $c->set_multi(map { ["m:$_", "m:$_" x 3] } @even) };
step 'multi-get',      sub { $c->get_multi(@keys) };
step 'multi-get.none', sub { $c->get_multi('absent1', 'absent2') };
my $tokens = $c->gets_multi(@keys[0 .. 9]);
step 'multi-gets',     sub { +{map { $_ => $tokens->{$_}[1] } keys %$tokens} };
step 'multi-cas',      sub { $c->cas_multi(map { [$_, $tokens->{$_}[0], 'new'] } sort keys %$tokens) };
step 'multi-cas.conflict', sub { $c->cas_multi(map { [$_, $tokens->{$_}[0], 'lost'] } sort keys %$tokens) };
step 'multi-add',      sub { $c->add_multi(['m:0', 'no'], ['m:1', 'yes']) };
step 'multi-replace',  sub { $c->replace_multi(['m:0', 'yes'], ['m:3', 'no']) };
step 'multi-append',   sub { $c->append_multi(['m:0', '!'], ['m:3', 'no']) };
step 'multi-prepend',  sub { $c->prepend_multi(['m:0', '!'], ['m:3', 'no']) };
step 'multi-touch',    sub { $c->touch_multi(['m:0', 300], ['m:3', 300]) };
step 'multi-gat',      sub { $c->gat_multi(300, @keys[0 .. 9]) };
my $touched = $c->gats_multi(300, @keys[0 .. 9]);
step 'multi-gats',     sub { +{map { $_ => $touched->{$_}[1] } keys %$touched} };
step 'multi-delete',   sub { $c->delete_multi(@keys[0 .. 9]) };
step 'multi-delete.get', sub { $c->get_multi(@keys[0 .. 19]) };

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
step 'key.too-long-get', sub { connected()->get(LONGEST . 'k') };
step 'key.too-long',     sub { connected()->set(LONGEST . 'k', 'v') };
step 'key.space',        sub { connected()->set('a b', 'v') };
step 'key.unicode',      sub { $c->set("\xe4\xbd\xa0", 'v') };
step 'key.unicode-get',  sub { $c->get("\xe4\xbd\xa0") };
step 'key.namespace',    sub { connected(namespace => 'm:')->get('20') };
step 'key.after',        sub { $c->get('v:text') };

# In void context the client asks for no reply, and with nowait it does not wait for what it asked for.
my $q = connected(nowait => 1, servers => [{address => "$host:$port", noreply => 1}]);
$q->set('q', '1');
$q->append('q', '2');
$q->prepend('q', '0');
$q->add('q', '3');
$q->replace('absent', '3');
$q->incr('q');
$q->decr('q', 2);
$q->touch('q', 300);
$q->set_multi(['q1', '1'], ['q2', '2']);
$q->delete('q1');
$q->delete('absent');
$q->nowait_push;
wait_until 'noreply.set', sub { ($q->get('q') // '') =~ /^11 *$/ };
step 'noreply.multi-get', sub { $q->get_multi('q1', 'q2', 'absent') };
step 'nowait.set', sub { $q->set('q', '5') };
step 'nowait.get', sub { $q->get('q') };

step 'version', sub { $c->server_versions->{"$host:$port"} =~ /^\d+\.\d+/ ? 'number' : 'no number' };

for my $name (qw(set add touch gat gats)) {
    wait_until "expiry.$name", sub { !defined $c->get("e:$name") };
}
step 'flush_all',     sub { $c->flush_all->{"$host:$port"} };
step 'flush_all.get', sub { $c->get('v:text') };
failover($c);
$c->disconnect_all;
