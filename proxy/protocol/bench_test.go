package protocol

import (
	"bytes"
	"fmt"
	"testing"
)

const benchKey = "memtier-1234567"

func benchParse(b *testing.B, in []byte, want Op) {
	b.Helper()
	p := NewParser(1 << 20)
	var r Request
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if n, _ := p.Parse(in, &r); n != len(in) || r.Op != want {
			b.Fatalf("Parse took %d of %d bytes, op %d", n, len(in), r.Op)
		}
	}
}

func BenchmarkParseGet(b *testing.B) {
	benchParse(b, []byte("get "+benchKey+"\r\n"), OpGet)
}

func BenchmarkParseGet250(b *testing.B) {
	benchParse(b, append(append([]byte("get "), bytes.Repeat([]byte("k"), 250)...), "\r\n"...), OpGet)
}

func BenchmarkParseGet24Keys(b *testing.B) {
	in := []byte("get")
	for i := range 24 {
		in = fmt.Appendf(in, " %s%d", benchKey, i)
	}
	benchParse(b, append(in, "\r\n"...), OpGet)
}

func BenchmarkParseSet100(b *testing.B) {
	in := append([]byte("set "+benchKey+" 0 0 100\r\n"), bytes.Repeat([]byte("x"), 100)...)
	benchParse(b, append(in, "\r\n"...), OpSet)
}

func BenchmarkParseSetNoreply(b *testing.B) {
	in := append([]byte("set "+benchKey+" 0 0 100 noreply\r\n"), bytes.Repeat([]byte("x"), 100)...)
	benchParse(b, append(in, "\r\n"...), OpSet)
}

func BenchmarkParseAdd(b *testing.B) {
	benchParse(b, []byte("add "+benchKey+" 17 3600 3\r\nabc\r\n"), OpAdd)
}

func BenchmarkParseIncr(b *testing.B) {
	benchParse(b, []byte("incr "+benchKey+" 1\r\n"), OpIncr)
}

func BenchmarkParseDelete(b *testing.B) {
	benchParse(b, []byte("delete "+benchKey+"\r\n"), OpDelete)
}

func BenchmarkParseValue(b *testing.B) {
	in := []byte("VALUE " + benchKey + " 0 100\r\n")
	var h ValueHeader
	b.ReportAllocs()
	for b.Loop() {
		if ParseValue(in, &h) != Complete {
			b.Fatal("header not read")
		}
	}
}

func BenchmarkParseLineStored(b *testing.B) {
	in := []byte("STORED\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, a, _ := ParseLine(in); a != Stored {
			b.Fatal("answer not read")
		}
	}
}

func BenchmarkParseLineNumber(b *testing.B) {
	in := []byte("1234567\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, a, _ := ParseLine(in); a != Number {
			b.Fatal("answer not read")
		}
	}
}

func BenchmarkAppendStorage(b *testing.B) {
	dst := make([]byte, 0, 128)
	key := []byte(benchKey)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendStorage(dst[:0], OpSet, key, 0, 0, 100, 0)
	}
}
