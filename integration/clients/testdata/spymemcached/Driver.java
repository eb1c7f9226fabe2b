// Runs every operation of spymemcached: Driver HOST PORT text|binary.
//
// A step is one line: `ok NAME RESULT`, or `error NAME EXCEPTION MESSAGE`.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.zip.CRC32;
import net.spy.memcached.CASResponse;
import net.spy.memcached.CASValue;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.MemcachedClient;
import net.spy.memcached.internal.OperationFuture;
import net.spy.memcached.transcoders.SerializingTranscoder;

public class Driver {
    static final int MIB = 1024 * 1024;
    static final long PATIENCE = 8_000_000_000L; // nanoseconds

    static String host;
    static int port;
    static boolean binary;

    static MemcachedClient connect() throws IOException {
        SerializingTranscoder transcoder = new SerializingTranscoder(2 * MIB);
        return new MemcachedClient(new ConnectionFactoryBuilder()
            .setProtocol(binary ? ConnectionFactoryBuilder.Protocol.BINARY : ConnectionFactoryBuilder.Protocol.TEXT)
            .setTranscoder(transcoder).setOpTimeout(10_000).build(),
            List.of(new InetSocketAddress(host, port)));
    }

    static String show(Object value) {
        if (value instanceof String) {
            String s = (String) value;
            return s.length() > 60 ? sum(s.getBytes(java.nio.charset.StandardCharsets.UTF_8)) : "'" + escaped(s) + "'";
        }
        if (value instanceof byte[]) {
            return sum((byte[]) value);
        }
        if (value instanceof Map) {
            Map<String, String> shown = new TreeMap<>();
            ((Map<?, ?>) value).forEach((k, v) -> shown.put(String.valueOf(k), show(v)));
            return shown.toString();
        }
        if (value instanceof CASValue) {
            CASValue<?> v = (CASValue<?>) value;
            return show(v.getValue()) + (v.getCas() == 0 ? "" : " token");
        }
        return String.valueOf(value);
    }

    static String sum(byte[] bytes) {
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return String.format("%d-bytes-%08x", bytes.length, crc.getValue());
    }

    static String escaped(String s) {
        StringBuilder out = new StringBuilder();
        for (char c : s.toCharArray()) {
            out.append(c < ' ' || c > '~' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return out.toString();
    }

    // result waits for an operation. A refusal has a status besides false.
    static Object result(Object value) throws Exception {
        if (value instanceof OperationFuture) {
            OperationFuture<?> future = (OperationFuture<?>) value;
            Object got = future.get();
            return show(got) + " (" + escaped(future.getStatus().getMessage()) + ")";
        }
        return show(value);
    }

    static void step(String name, Callable<Object> call) {
        try {
            System.out.println("ok " + name + " " + result(call.call()));
        } catch (Exception e) {
            Throwable cause = e instanceof ExecutionException && e.getCause() != null ? e.getCause() : e;
            String message = String.valueOf(cause.getMessage()).replace(host + ":" + port, "SERVER");
            System.out.println("error " + name + " " + cause.getClass().getSimpleName() + " " + escaped(message));
        }
    }

    static void until(String name, Callable<Boolean> cond) throws Exception {
        for (long end = System.nanoTime() + PATIENCE; !cond.call(); Thread.sleep(50)) {
            if (System.nanoTime() > end) {
                System.out.println("error " + name + " it did not happen");
                return;
            }
        }
        System.out.println("ok " + name + " yes");
    }

    static String random(int seed, int length) {
        Random random = new Random(seed);
        StringBuilder out = new StringBuilder(length);
        while (out.length() < length) {
            out.append((char) ('!' + random.nextInt(90)));
        }
        return out.toString();
    }

    public static void main(String[] args) throws Exception {
        System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SunLogger");
        java.util.logging.LogManager.getLogManager().reset();
        host = args[0];
        port = Integer.parseInt(args[1]);
        binary = args[2].equals("binary");
        MemcachedClient c = connect();
        run(c);
        failover(c);
        System.exit(0);
    }

    static void run(MemcachedClient c) throws Exception {
        c.set("f", 0, "1").get();
        // What is written in the second of the flush is flushed too, and each server has seconds of its own:
        // so this comes long before the failover.
        step("flush_all.delayed", () -> c.flush(2));
        until("flush_all.delayed-get", () -> c.get("f") == null);
        until("flush_all.settled", () -> c.set("f", 0, "2").get() && c.get("f") != null);

        c.set("e:set", 2, "v").get();
        c.add("e:add", 2, "v").get();
        c.set("e:touch", 0, "v").get();
        c.set("e:gat", 0, "v").get();
        c.incr("e:incr", 1, 5, 2);
        step("touch.hit", () -> c.touch("e:touch", 2));
        step("touch.miss", () -> c.touch("absent", 2));
        if (binary) {
            // The client has this command with the binary protocol only.
            step("gat.hit", () -> c.getAndTouch("e:gat", 2));
            step("gat.miss", () -> c.getAndTouch("absent", 2));
        }
        c.set("e:long", 300, "v").get();
        step("expiry.far", () -> c.get("e:long"));

        Map<String, Object> values = new LinkedHashMap<>();
        values.put("text", "value");
        values.put("empty", "");
        values.put("integer", 42);
        values.put("long", 1L << 40);
        values.put("true", true);
        values.put("double", 1.5);
        values.put("list", new ArrayList<>(Arrays.asList(1, "two")));
        values.put("bytes", new byte[] {0, 13, 10, 'E', 'N', 'D', 13, 10, -1});
        values.put("unicode", "\u4f60\u597d");
        values.forEach((name, value) -> {
            step("set." + name, () -> c.set("v:" + name, 0, value));
            step("get." + name, () -> c.get("v:" + name));
        });
        step("get.miss", () -> c.get("absent"));

        step("add.stored", () -> c.add("a", 0, "1"));
        step("add.refused", () -> c.add("a", 0, "2"));
        step("replace.refused", () -> c.replace("absent", 0, "1"));
        step("replace.stored", () -> c.replace("a", 0, "3"));
        step("append.refused", () -> c.append("absent", "1"));
        step("append.stored", () -> c.append("a", "4"));
        step("prepend.refused", () -> c.prepend("absent", "1"));
        step("prepend.stored", () -> c.prepend("a", "2"));
        step("prepend.get", () -> c.get("a"));

        step("incr.miss", () -> c.incr("absent", 1));
        step("incr.initial", () -> c.incr("n", 1, 10));
        step("incr.one", () -> c.incr("n", 1));
        step("incr.many", () -> c.incr("n", 1000, 10));
        step("incr.async", () -> c.asyncIncr("n", 1));
        step("decr.one", () -> c.decr("n", 1));
        step("decr.below", () -> c.decr("n", 100000));
        step("decr.miss", () -> c.decr("absent", 1));
        step("decr.initial", () -> c.decr("d", 1, 10, 300));
        step("decr.initial-again", () -> c.decr("d", 1, 10, 300));
        c.set("a:text", 0, "text").get();
        step("incr.text", () -> c.asyncIncr("a:text", 1));
        step("incr.after", () -> c.get("d"));

        c.set("c", 0, "1").get();
        CASValue<Object> got = c.gets("c");
        step("gets.hit", () -> got);
        step("gets.miss", () -> c.gets("absent"));
        step("cas.stored", () -> c.cas("c", got.getCas(), "2"));
        step("cas.conflict", () -> c.cas("c", got.getCas(), "3"));
        step("cas.get", () -> c.get("c"));
        step("cas.miss", () -> c.cas("absent", got.getCas(), "1"));
        if (binary) {
            step("cas.append", () -> c.append(c.gets("c").getCas(), "c", "4"));
            step("cas.append-conflict", () -> c.append(got.getCas(), "c", "5"));
            step("cas.delete-conflict", () -> c.delete("c", got.getCas()));
        }

        step("delete.hit", () -> c.delete("c"));
        step("delete.miss", () -> c.delete("c"));

        List<String> keys = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            keys.add("m:" + i);
        }
        // The client joins what waits to be sent: gets to one get of many keys, sets to quiet ones.
        step("parallel.set", () -> {
            List<OperationFuture<Boolean>> sets = new ArrayList<>();
            for (int i = 0; i < 100; i += 2) {
                sets.add(c.set(keys.get(i), 0, keys.get(i).repeat(3)));
            }
            int stored = 0;
            for (OperationFuture<Boolean> set : sets) {
                stored += set.get() ? 1 : 0;
            }
            return stored;
        });
        step("multi-get", () -> c.getBulk(keys));
        step("multi-get.none", () -> c.getBulk("absent1", "absent2"));
        step("parallel.get", () -> {
            List<net.spy.memcached.internal.GetFuture<Object>> gets = new ArrayList<>();
            for (String key : keys) {
                gets.add(c.asyncGet(key));
            }
            Map<String, Object> values2 = new TreeMap<>();
            for (int i = 0; i < gets.size(); i++) {
                values2.put(keys.get(i), gets.get(i).get());
            }
            return values2;
        });

        step("large.fits", () -> c.set("l", 0, random(1, MIB - 1024).getBytes()));
        step("large.get", () -> c.get("l"));
        // More than the limit of the server before the client has compressed it.
        step("compression.set", () -> c.set("z", 0, "the same words again and again ".repeat(40_000)));
        step("compression.get", () -> c.get("z"));
        byte[] tooLarge = new byte[MIB + MIB / 2];
        new Random(3).nextBytes(tooLarge);
        MemcachedClient refused = connect();
        step("large.refused", () -> refused.set("l", 0, tooLarge));
        step("large.after", () -> c.get("v:text"));
        step("large.stale", () -> c.get("l"));

        String longest = "k".repeat(250);
        step("key.longest", () -> c.set(longest, 0, "v"));
        step("key.longest-get", () -> c.get(longest));
        step("key.too-long", () -> c.set(longest + "k", 0, "v"));
        step("key.space", () -> c.set("a b", 0, "v"));
        step("key.control", () -> c.set("a\nb", 0, "v"));
        step("key.empty", () -> c.set("", 0, "v"));
        step("key.unicode", () -> c.set("\u4f60\u597d", 0, "v"));
        step("key.unicode-get", () -> c.get("\u4f60\u597d"));
        step("key.after", () -> c.get("v:text"));

        Map<String, String> stats = c.getStats().values().iterator().next();
        List<String> wanted = new ArrayList<>(List.of("pid", "uptime", "version", "curr_connections", "cmd_get", "cmd_set", "get_hits"));
        wanted.retainAll(stats.keySet());
        step("stats", () -> wanted);
        step("stats.settings", () -> c.getStats("settings").values().iterator().next().containsKey("maxconns"));
        step("version", () -> c.getVersions().values().iterator().next().matches("\\d+\\.\\d+.*"));
        if (binary) {
            step("sasl.mechanisms", () -> c.listSaslMechanisms());
        }

        for (String name : binary ? List.of("set", "add", "touch", "incr", "gat") : List.of("set", "add", "touch", "incr")) {
            until("expiry." + name, () -> c.get("e:" + name) == null);
        }
        step("flush_all", () -> c.flush());
        step("flush_all.get", () -> c.get("v:text"));
    }

    // What is on two servers survives the death of one.
    static void failover(MemcachedClient c) throws Exception {
        until("failover.ready", () -> c.set("fo:value", 0, "before").get() && "before".equals(c.get("fo:value")));
        c.set("fo:number", 0, "41").get();
        c.set("fo:text", 0, "a").get();
        c.set("fo:deleted", 0, "here").get();
        System.out.println("ready");
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        outcome("read", () -> c.get("fo:value"));
        outcome("incr", () -> c.incr("fo:number", 1));
        outcome("incr-again", () -> c.incr("fo:number", 1));
        outcome("append", () -> c.append("fo:text", "b").get() ? c.get("fo:text") : false);
        outcome("write", () -> c.set("fo:value", 0, "after").get() ? c.get("fo:value") : false);
        outcome("delete", () -> c.delete("fo:deleted").get() && c.get("fo:deleted") == null ? "gone" : "there");
    }

    static void outcome(String name, Callable<Object> call) {
        try {
            System.out.println("ok failover." + name + " " + call.call());
        } catch (Exception e) {
            System.out.println("error failover." + name + " " + e);
        }
    }
}
