package protocol

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// feed gives in to the parser as a caller would that reads it in pieces: cuts
// are the lengths at which it looks, in rising order. It returns what each
// request was, and how many bytes were taken.
func feed(p *Parser, in []byte, cuts []int) (requests []string, used int, err error) {
	return feedTo(p.ParseFrom, in, cuts)
}

// parseFunc is Parser.ParseFrom or what stands in for it.
type parseFunc func(in []byte, searched int, r *Request) (n, need int)

// feedTo is feed for a parser of any dialect.
func feedTo(parse parseFunc, in []byte, cuts []int) (requests []string, used int, err error) {
	in = bytes.Clone(in) // a key is decoded in its place
	searched, need := 0, 0
	for _, have := range append(slices.Clone(cuts), len(in)) {
		if have-used < need {
			continue // as told, it would be of no use
		}
		for used < have {
			var r Request
			var n int
			n, need = parse(in[used:have], searched, &r)
			if n == 0 {
				if need != 0 && need <= have-used {
					return nil, 0, fmt.Errorf("with %d bytes there need is %d", have-used, need)
				}
				searched = have - used
				if need != 0 {
					searched = 0
				}
				break
			}
			if n > have-used {
				return nil, 0, fmt.Errorf("took %d of %d bytes", n, have-used)
			}
			searched, need = 0, 0
			requests = append(requests, describe(&r))
			if r.Close {
				return requests, len(in), nil // how much was there is of no account
			}
			used += n
			// Bytes to throw away are not looked at.
			if r.Skip > int64(len(in)-used) {
				return append(requests, "skipping"), len(in), nil
			}
			used += int(r.Skip)
		}
	}
	return requests, used, nil
}

// checkSplits reports when the parser sees something else in in when it comes
// in two pieces, or byte by byte, than when it comes in one.
func checkSplits(p *Parser, in []byte) error { return checkSplitsOf(p.ParseFrom, in) }

// checkSplitsOf is checkSplits for a parser of any dialect.
func checkSplitsOf(parse parseFunc, in []byte) error {
	want, used, err := feedTo(parse, in, nil)
	if err != nil {
		return err
	}
	same := func(how string, cuts []int) error {
		got, n, err := feedTo(parse, in, cuts)
		if err != nil {
			return fmt.Errorf("%s: %w", how, err)
		}
		if n != used || !slices.Equal(got, want) {
			return fmt.Errorf("%s: took %d bytes:\n%q\nat once: %d bytes:\n%q", how, n, got, used, want)
		}
		return nil
	}
	step := 1 + len(in)/300
	var every []int
	for i := 1; i < len(in); i++ {
		every = append(every, i)
		if i%step == 0 {
			if err := same(fmt.Sprintf("split at %d", i), []int{i}); err != nil {
				return err
			}
		}
	}
	return same("byte by byte", every)
}

// encodeRequest writes r as a client would.
func encodeRequest(r *Request) []byte {
	if r.Dialect == Meta {
		return encodeMeta(r)
	}
	var b []byte
	switch r.Op {
	case OpGet, OpGets:
		return AppendGetEnd(appendKeys(AppendGetStart(nil, r.Op), r))
	case OpGat, OpGats:
		return AppendGetEnd(appendKeys(AppendGatStart(nil, r.Op, r.Expiry), r))
	case OpSet, OpAdd, OpReplace, OpAppend, OpPrepend, OpCas:
		b = AppendStorage(nil, r.Op, r.Key, r.Flags, r.Expiry, len(r.Value), r.CAS)
	case OpDelete:
		b = AppendDelete(nil, r.Key)
	case OpIncr, OpDecr:
		b = AppendArith(nil, r.Op, r.Key, r.Delta)
	case OpTouch:
		b = AppendTouch(nil, r.Key, r.Expiry)
	case OpFlushAll:
		b = AppendFlushAll(nil, r.Expiry)
	case OpVersion:
		return AppendVersion(nil)
	case OpStats:
		return AppendStats(nil, string(r.Args))
	default:
		return nil
	}
	if r.Quiet {
		b = append(bytes.TrimSuffix(b, []byte("\r\n")), " noreply\r\n"...)
	}
	if r.Value != nil {
		b = append(append(b, r.Value...), "\r\n"...)
	}
	return b
}

// checkRoundTrip reports when a request in in, written anew, is not the same
// request.
func checkRoundTrip(p *Parser, in []byte) error {
	in = bytes.Clone(in)
	for len(in) > 0 {
		var r, again Request
		n, _ := p.Parse(in, &r)
		if n == 0 || r.Close || r.Skip > int64(len(in)-n) {
			return nil
		}
		if b := encodeRequest(&r); b != nil {
			if m, _ := p.Parse(b, &again); m != len(b) {
				return fmt.Errorf("%q is written as %q, of which %d bytes are taken", in[:n], b, m)
			}
			if r.Op == OpFlushAll && r.Expiry <= 0 {
				r.HasTime, r.Expiry = false, 0 // now is now
			}
			if got, want := describe(&again), describe(&r); got != want {
				return fmt.Errorf("%q is written as %q:\n got %s\nwant %s", in[:n], b, got, want)
			}
		}
		in = in[n+int(r.Skip):]
	}
	return nil
}

// fuzzParser has limits small enough to be reached.
func fuzzParser(textOnly bool) *Parser {
	p := NewParser(1000)
	p.TextOnly = textOnly
	return p
}

// FuzzRequest checks that no input crashes the parser, that it sees the same
// at every split, and that its requests survive being written and read.
//
// promise: R4, W4
func FuzzRequest(f *testing.F) {
	for _, c := range goodRequests {
		f.Add([]byte(c.in), true)
	}
	for _, c := range badRequests {
		f.Add([]byte(c.in), false)
	}
	f.Add([]byte("set k 0 0 1001\r\nabc"), true)
	f.Add([]byte("get a\r\nset b 1 2 3\r\nabc\r\nincr b 1 noreply\r\ndelete b\r\nversion\r\n"), true)
	f.Add([]byte("\x80\x00\x00\x01\r\n"), false)
	f.Fuzz(func(t *testing.T, in []byte, textOnly bool) {
		p := fuzzParser(textOnly)
		if len(in) > maxCommandLine {
			in = bytes.Clone(in)
			// Where memcached's own answer depends on how the input comes.
			for used := 0; used < len(in); {
				var r Request
				n, need := p.Parse(in[used:], &r)
				if n < 0 || n > len(in)-used || (n == 0 && need != 0 && need <= len(in)-used) {
					t.Fatalf("took %d (need %d) of %d bytes", n, need, len(in)-used)
				}
				if n == 0 || r.Close {
					break
				}
				used += n
			}
			return
		}
		if err := checkSplits(p, in); err != nil {
			t.Fatal(err)
		}
		if err := checkRoundTrip(p, in); err != nil {
			t.Fatal(err)
		}
	})
}

// promise: W4, W6
func TestSplitsOfPipelines(t *testing.T) {
	var in []byte
	for _, c := range goodRequests {
		if len(in) < 3000 {
			in = append(in, c.in...)
		}
	}
	for _, c := range badRequests {
		if !c.close {
			in = append(in, c.in...)
		}
	}
	p := fuzzParser(true)
	if err := checkSplits(p, in); err != nil {
		t.Error(err)
	}
	if err := checkRoundTrip(p, in); err != nil {
		t.Error(err)
	}
}

// drawRequest makes a valid request.
func drawRequest(t *rapid.T) Request {
	key := rapid.SliceOfN(rapid.ByteRange('!', '~'), 1, maxKey)
	r := Request{
		Op:  rapid.SampledFrom([]Op{OpGet, OpGets, OpGat, OpGats, OpSet, OpAdd, OpReplace, OpAppend, OpPrepend, OpCas, OpDelete, OpIncr, OpDecr, OpTouch, OpFlushAll}).Draw(t, "op"),
		Key: key.Draw(t, "key"),
	}
	expiry := int64(rapid.Int32().Draw(t, "expiry"))
	switch r.Op {
	case OpGat, OpGats:
		r.Expiry = expiry
		fallthrough
	case OpGet, OpGets:
		for _, k := range rapid.SliceOfN(key, 0, 5).Draw(t, "keys") {
			r.Keys = append(append(r.Keys, ' '), k...)
		}
		return r
	case OpCas:
		r.CAS = rapid.Uint64().Draw(t, "cas")
		fallthrough
	case OpSet, OpAdd, OpReplace, OpAppend, OpPrepend:
		r.Expiry = expiry
		r.Flags = rapid.Uint32().Draw(t, "flags")
		r.Value = rapid.SliceOfN(rapid.Byte(), 0, 1000).Draw(t, "value")
	case OpIncr, OpDecr:
		r.Delta = rapid.Uint64().Draw(t, "delta")
	case OpTouch:
		r.Expiry = expiry
	case OpFlushAll:
		r.Key = nil
		if expiry > 0 {
			r.Expiry, r.HasTime = expiry, true
		}
	}
	r.Quiet = rapid.Bool().Draw(t, "quiet")
	return r
}

// promise: W1, W4
func TestRequestsSurviveWriting(t *testing.T) {
	p := fuzzParser(true)
	rapid.Check(t, func(t *rapid.T) {
		var in []byte
		var want []string
		for range rapid.IntRange(1, 5).Draw(t, "count") {
			r := drawRequest(t)
			in = append(in, encodeRequest(&r)...)
			want = append(want, describe(&r))
		}
		cuts := rapid.SliceOfN(rapid.IntRange(1, len(in)), 0, 10).Draw(t, "cuts")
		slices.Sort(cuts)
		got, used, err := feed(p, in, cuts)
		if err != nil || used != len(in) || !slices.Equal(got, want) {
			t.Fatalf("%q: took %d of %d bytes (%v):\n got %q\nwant %q", in, used, len(in), err, got, want)
		}
	})
}
