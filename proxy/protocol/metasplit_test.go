package protocol

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"testing"
)

// metaVerbs are the commands of the meta dialect by the operations that they
// become.
var metaVerbs = map[Op]string{
	OpMetaGet: "mg", OpMetaDebug: "me", OpNoop: "mn",
	OpSet: "ms", OpAdd: "ms", OpReplace: "ms", OpAppend: "ms", OpPrepend: "ms", OpCas: "ms",
	OpDelete: "md", OpInvalidate: "md", OpIncr: "ma", OpDecr: "ma",
}

// encodeMeta writes r, a meta request, as a client would.
func encodeMeta(r *Request) []byte {
	verb := metaVerbs[r.Op]
	switch verb {
	case "":
		return nil
	case "mn":
		return []byte("mn\r\n")
	}
	key := string(r.Key)
	if r.Base64 {
		key = base64.StdEncoding.EncodeToString(r.Key)
	}
	b := fmt.Appendf(nil, "%s %s", verb, key)
	if verb == "ms" {
		b = fmt.Appendf(b, " %d", len(r.Value))
	}
	if verb == "me" && r.Base64 {
		b = append(b, " b"...)
	}
	if len(r.Words) > 0 {
		b = append(append(b, ' '), r.Words...)
	}
	b = append(b, "\r\n"...)
	if verb == "ms" {
		b = append(append(b, r.Value...), "\r\n"...)
	}
	return b
}

// promise: W2, W4, W6
func TestSplitsOfMetaPipelines(t *testing.T) {
	for _, old := range []bool{false, true} {
		p := fuzzParser(true)
		p.OldMeta = old
		var in []byte
		check := func() {
			t.Helper()
			if err := checkSplits(p, in); err != nil {
				t.Error(err)
			}
			if err := checkRoundTrip(p, in); err != nil {
				t.Error(err)
			}
			in = nil
		}
		for _, c := range goodMetaRequests {
			in = append(in, c.in...)
		}
		check()
		for _, c := range badMetaRequests {
			in = append(append(in, c.in...), bytes.Repeat([]byte("x"), int(min(c.skip, 5000)))...)
		}
		check()
	}
}

// FuzzMetaRequest checks that no meta request crashes the parser, that it sees
// the same at every split, and that its requests survive being written and
// read.
//
// promise: R4, W2, W4
func FuzzMetaRequest(f *testing.F) {
	for _, c := range goodMetaRequests {
		f.Add([]byte(c.in), true)
	}
	for _, c := range badMetaRequests {
		f.Add([]byte(c.in), false)
	}
	f.Add([]byte("ms YSBi 3 b q\r\nabc\r\nmg YSBi b v k\r\nms k 1001\r\nabc"), true)
	f.Fuzz(func(t *testing.T, in []byte, old bool) {
		if len(in) > maxCommandLine {
			in = in[:maxCommandLine] // behind it what memcached answers depends on how the input comes
		}
		p := fuzzParser(true)
		p.OldMeta = old
		if err := checkSplits(p, in); err != nil {
			t.Fatal(err)
		}
		if err := checkRoundTrip(p, in); err != nil {
			t.Fatal(err)
		}
	})
}
