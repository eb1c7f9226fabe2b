package Transcript;

# What the drivers of the Perl clients have in common. A step is one line:
# `ok NAME RESULT`, or `error NAME MESSAGE` when the client dies.

use strict;
use warnings;
use Exporter 'import';
use Time::HiRes qw(sleep time);

our @EXPORT = qw(step wait_until show random stats_names failover MIB LONGEST COMPRESSIBLE EVERY_BYTE);

use constant MIB          => 1024 * 1024;
use constant LONGEST      => 'k' x 250;
use constant COMPRESSIBLE => 'the same words again and again ' x 8000;
use constant EVERY_BYTE   => join('', map { chr } 0 .. 255) . "\r\nEND\r\n";

$| = 1;

sub show {
    my ($value) = @_;
    return 'undef' unless defined $value;
    if (ref $value eq 'ARRAY') { return '[' . join(', ', map { show($_) } @$value) . ']' }
    if (ref $value eq 'HASH') { return '{' . join(', ', map { "$_: " . show($value->{$_}) } sort keys %$value) . '}' }
    if (length $value > 60) { return sprintf '%d-bytes-%08x', length $value, unpack('%32C*', $value) }
    $value =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ge;
    return "'$value'";
}

sub step {
    my ($name, $call) = @_;
    my $result = eval { $call->() };
    if ($@) {
        (my $message = $@) =~ s/ at \S+ line \d+.*//s;
        print "error $name $message\n";
        return;
    }
    print "ok $name ", show($result), "\n";
    return $result;
}

sub wait_until {
    my ($name, $cond) = @_;
    my $end = time + 8;
    until ($cond->()) {
        if (time > $end) {
            print "error $name it did not happen\n";
            return;
        }
        sleep 0.05;
    }
    print "ok $name yes\n";
}

sub random {
    my ($seed, $length) = @_;
    my $bytes = '';
    while (length $bytes < $length) {
        $seed = ($seed * 1103515245 + 12345) & 0x7fffffff;
        $bytes .= pack 'n', $seed >> 8 & 0xffff;
    }
    return substr $bytes, 0, $length;
}

sub stats_names {
    my ($stats) = @_;
    return [grep { exists $stats->{$_} } qw(pid uptime version curr_connections cmd_get cmd_set get_hits)];
}

# What is on two servers survives the death of one.
sub failover {
    my ($c) = @_;
    wait_until('failover.ready', sub { $c->set('fo:value', 'before') && $c->get('fo:value') });
    $c->set('fo:number',  41);
    $c->set('fo:text',    'a');
    $c->set('fo:deleted', 'here');
    print "ready\n";
    <STDIN>;
    my $outcome = sub { print "ok failover.$_[0] ", $_[1] // 'undef', "\n" };
    $outcome->('read',       $c->get('fo:value'));
    $outcome->('incr',       $c->incr('fo:number'));
    $outcome->('incr-again', $c->incr('fo:number'));
    $outcome->('append',     $c->append('fo:text', 'b') && $c->get('fo:text'));
    $outcome->('write',      $c->set('fo:value', 'after') && $c->get('fo:value'));
    $outcome->('delete',     $c->delete('fo:deleted') && ($c->get('fo:deleted') // 'gone'));
}

1;
