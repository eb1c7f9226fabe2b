# frozen_string_literal: true

# Runs every operation of dalli: driver.rb HOST PORT binary|meta.
#
# A step is one line: `ok NAME RESULT`, or `error NAME CLASS MESSAGE`.

require 'dalli'
require 'logger'
require 'zlib'

if ARGV[0] == '--version'
  puts Dalli::VERSION
  exit
end

HOST, PORT, PROTOCOL = ARGV
MIB = 1024 * 1024
$stdout.sync = true
Dalli.logger = Logger.new(File::NULL)

def connect(**options)
  options = { socket_timeout: 10, value_max_bytes: 2 * MIB, down_retry_delay: 0, **options }
  # Version 3.0 has the binary protocol only, and no option to choose it.
  options[:protocol] = PROTOCOL.to_sym if Dalli::VERSION >= '3.2'
  Dalli::Client.new("#{HOST}:#{PORT}", options)
end

def show(value)
  case value
  when String
    text = value.b
    text.bytesize > 60 ? format('%d-bytes-%08x', text.bytesize, Zlib.crc32(text)) : text.inspect
  when Hash then "{#{value.sort.map { |k, v| "#{show(k)}: #{show(v)}" }.join(', ')}}"
  when Array then "[#{value.map { |v| show(v) }.join(', ')}]"
  else value.inspect
  end
end

def step(name)
  result = yield
  puts "ok #{name} #{show(result)}"
  result
rescue StandardError => e
  puts "error #{name} #{e.class} #{e.message.lines.first.chomp.gsub("#{HOST}:#{PORT}", 'SERVER').inspect}"
  nil
end

# A token differs from server to server: only whether there is one is shown.
def told(token)
  token.is_a?(Integer) && token.positive? ? 'token' : token
end

def wait_until(name)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 8
  until yield
    if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
      puts "error #{name} it did not happen"
      return
    end
    sleep 0.05
  end
  puts "ok #{name} yes"
end

# Runs a block whose writes are not answered.
def quietly(client, &block)
  client.respond_to?(:quiet) ? client.quiet(&block) : client.multi(&block)
  'done'
end

c = connect
c.set('f', '1')
# What is written in the second of the flush is flushed too, and each server has seconds of its own:
# so this comes long before the failover.
step('flush_all.delayed') { c.flush(2) }
wait_until('flush_all.delayed-get') { c.get('f').nil? }
wait_until('flush_all.settled') { c.set('f', '2') && c.get('f') }

c.set('e:set', 'v', 2)
c.add('e:add', 'v', 2)
c.set('e:touch', 'v')
c.set('e:gat', 'v')
c.incr('e:incr', 1, 2, 5)
step('touch.hit') { c.touch('e:touch', 2) }
step('touch.miss') { c.touch('absent', 2) }
step('gat.hit') { c.gat('e:gat', 2) }
step('gat.miss') { c.gat('absent', 2) }
c.set('e:long', 'v', 300)
step('expiry.far') { c.get('e:long') }

{
  'text' => 'value', 'empty' => '', 'bytes' => (0..255).to_a.pack('C*') + "\r\nEND\r\n".b, 'integer' => 42,
  'true' => true, 'float' => 1.5, 'nil' => nil, 'list' => [1, 'two'], 'unicode' => "\u4f60\u597d"
}.each do |name, value|
  step("set.#{name}") { told(c.set("v:#{name}", value)) }
  step("get.#{name}") { c.get("v:#{name}") }
end
step('set.raw') { told(c.set('v:raw', 42, nil, raw: true)) }
step('get.raw') { c.get('v:raw') }
step('get.miss') { c.get('absent') }
step('get.fetch-miss') { c.fetch('fetched', 300) { 'made' } }
step('get.fetch-hit') { c.fetch('fetched', 300) { 'made again' } }

raw = { raw: true }
step('add.stored') { told(c.add('a', '1', nil, raw)) }
step('add.refused') { told(c.add('a', '2', nil, raw)) }
step('replace.refused') { told(c.replace('absent', '1')) }
step('replace.stored') { told(c.replace('a', '3', nil, raw)) }
step('append.refused') { c.append('absent', '1') }
step('append.stored') { c.append('a', '4') }
step('prepend.refused') { c.prepend('absent', '1') }
step('prepend.stored') { c.prepend('a', '2') }
step('prepend.get') { c.get('a', raw) }

step('incr.miss') { c.incr('absent') }
step('incr.initial') { c.incr('n', 1, 300, 10) }
step('incr.one') { c.incr('n') }
step('incr.many') { c.incr('n', 1000) }
step('decr.one') { c.decr('n') }
step('decr.below') { c.decr('n', 100_000) }
step('decr.miss') { c.decr('absent') }
step('decr.initial') { c.decr('d', 1, 300, 10) }
step('decr.initial-again') { c.decr('d', 1, 300, 10) }
c.set('n', '18446744073709551615', nil, raw)
step('incr.wrap') { c.incr('n', 2) }
c.set('a:text', 'text', nil, raw)
step('incr.text') { c.incr('a:text') }

c.set('c', '1')
step('cas.stored') { told(c.cas('c') { |v| "#{v}2" }) }
step('cas.conflict') { told(c.cas('c') { c.set('c', 'other') && 'lost' }) }
step('cas.get') { c.get('c') }
step('cas.miss') { told(c.cas('absent') { 'made' }) }
step('cas.always') { told(c.cas!('made') { 'made' }) }
value, token = c.get_cas('c')
step('gets.hit') { [value, told(token)] }
step('gets.miss') { c.get_cas('absent') }
step('cas.set') { told(c.set_cas('c', '3', token)) }
step('cas.set-conflict') { told(c.set_cas('c', '4', token)) }
step('cas.replace-conflict') { told(c.replace_cas('c', '4', token)) }
step('cas.replace') { told(c.replace_cas('c', '5', c.get_cas('c')[1])) }
step('cas.replace-miss') { told(c.replace_cas('absent', '5', token)) }
step('cas.delete-conflict') { c.delete_cas('c', token) }
step('cas.delete') { c.delete_cas('c', c.get_cas('c')[1]) }

c.set('c', '1')
step('delete.hit') { c.delete('c') }
step('delete.miss') { c.delete('c') }

keys = (0...100).map { |i| "m:#{i}" }
pairs = keys.each_slice(2).to_h { |k, _| [k, k * 3] }
if c.respond_to?(:set_multi)
  step('multi-set') { c.set_multi(pairs) && 'done' }
else
  step('multi-set') { quietly(c) { pairs.each { |k, v| c.set(k, v) } } }
end
step('multi-get') { c.get_multi(keys) }
step('multi-get.none') { c.get_multi('absent1', 'absent2') }
step('multi-gets') { c.get_multi_cas(keys).to_h { |k, (v, t)| [k, [v, told(t)]] } }
step('multi-delete') { quietly(c) { keys.first(10).each_slice(2) { |k, _| c.delete(k) } } }
step('multi-delete.get') { c.get_multi(keys.first(20)) }

# With the meta protocol, version 3.2 reads a value up to the end of its first line only.
random = Random.new(1)
large, too_large = [MIB - 1024, MIB + 1].map { |size| random.bytes(size).tr("\r".b, '.') }
plain = connect(compress: false)
step('large.fits') { told(plain.set('l', large, nil, raw)) }
step('large.get') { plain.get('l', raw) }
step('large.refused') { told(plain.set('l', too_large, nil, raw)) }
step('large.after') { c.get('v:text') }
step('large.stale') { c.get('l', raw) }
step('compression.set') { told(c.set('z', 'the same words again and again ' * 8000)) }
step('compression.get') { c.get('z') }

longest = 'k' * 250
step('key.longest') { told(c.set(longest, 'v')) }
step('key.longest-get') { c.get(longest) }
step('key.too-long') { told(c.set("#{longest}k", 'v')) }
step('key.too-long-get') { c.get("#{longest}k") }
step('key.space') { told(c.set('a b', 'v')) }
step('key.space-get') { c.get('a b') }
step('key.space-multi') { c.get_multi('a b', 'm:20') }
step('key.control') { told(c.set("a\nb", 'v')) }
step('key.control-get') { c.get("a\nb") }
step('key.empty') { told(c.set('', 'v')) }
step('key.unicode') { told(c.set("\u4f60\u597d", 'v')) }
step('key.unicode-get') { c.get("\u4f60\u597d") }
step('key.unicode-incr') { c.incr("\u4f60", 1, 0, 3) }
step('key.unicode-delete') { c.delete("\u4f60") }
step('key.namespace') { connect(namespace: 'm').get('20') }
step('key.after') { c.get('v:text') }

step('noreply.set') { quietly(c) { c.set('q', '1', nil, raw) } }
step('noreply.all') do
  quietly(c) do
    c.append('q', '2')
    c.prepend('q', '0')
    c.add('q2', '5', nil, raw)
    c.incr('q2', 2)
    c.decr('q2', 1)
    c.replace('c', '3', nil, raw)
    c.delete('a')
  end
end
step('noreply.get') { c.get_multi('q', 'q2', 'a', 'c') }
# What is refused is answered also in quiet, and version 3.0 does not take those answers.
if c.respond_to?(:quiet)
  step('noreply.refused') do
    quietly(c) do
      c.add('q', '3', nil, raw)
      c.replace('absent', '3', nil, raw)
      c.append('absent', '3')
      c.delete('absent')
      c.set('q2', too_large, nil, raw)
      c.set('q3', 'last', nil, raw)
    end
  end
  step('noreply.refused-get') { c.get_multi('q', 'q2', 'q3', 'absent') }
end
step('noreply.after') { c.get('v:text') }

wanted = %w[pid uptime version curr_connections cmd_get cmd_set get_hits]
step('stats') { wanted & c.stats.values.first.keys }
step('stats.settings') { c.stats(:settings).values.first.key?('maxconns') }
step('stats.reset') { c.reset_stats && 'done' }
step('version') { c.version.values.map { |v| v.match?(/\A\d+\.\d+/) } }
step('alive') { c.alive! && 'yes' }

%w[set add touch gat incr].each { |name| wait_until("expiry.#{name}") { c.get("e:#{name}").nil? } }
step('flush_all') { c.flush }
step('flush_all.get') { c.get('v:text') }

# What is on two servers survives the death of one.
wait_until('failover.ready') { c.set('fo:value', 'before') && c.get('fo:value') }
c.set('fo:number', '41', nil, raw)
c.set('fo:text', 'a', nil, raw)
c.set('fo:deleted', 'here')
puts 'ready'
$stdin.gets
def outcome(name)
  puts "ok failover.#{name} #{yield}"
rescue StandardError => e
  puts "error failover.#{name} #{e.class} #{e.message}"
end
outcome('read') { c.get('fo:value') }
outcome('incr') { c.incr('fo:number') }
outcome('incr-again') { c.incr('fo:number') }
outcome('append') { c.append('fo:text', 'b') && c.get('fo:text', raw) }
outcome('write') { c.set('fo:value', 'after') && c.get('fo:value') }
outcome('delete') { c.delete('fo:deleted') && (c.get('fo:deleted') || 'gone') }
c.close
