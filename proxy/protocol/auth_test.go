package protocol

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// told is what ParseAuth says of all of the input, in one line.
func told(in []byte) string {
	var out strings.Builder
	for {
		var a Auth
		n, _ := ParseAuth(in, &a)
		switch {
		case n == 0:
			fmt.Fprintf(&out, "waits with %d", len(in))
			return out.String()
		case a.Close:
			out.WriteString("closes")
			return out.String()
		case a.Reply != nil:
			fmt.Fprintf(&out, "%.*s; ", len(a.Reply)-2, a.Reply)
		default:
			fmt.Fprintf(&out, "%s/%s; ", a.User, a.Password)
		}
		in = in[n:]
	}
}

// The cases in which memcached was asked; integration asks it anew.
//
// promise: R1, R2
func TestParseAuth(t *testing.T) {
	const no = "CLIENT_ERROR unauthenticated; "
	y := strings.Repeat("y", 1<<15)
	for _, test := range []struct{ in, want string }{
		{"set auth 0 0 12\r\nalice secret\r\n", "alice/secret; waits with 0"},
		{"set a b c 12 noreply\nalice secret\r\n", "alice/secret; waits with 0"},
		{" set  a  0 0 \t+12\r\nalice secret\r\n", "alice/secret; waits with 0"},
		{"set a 0 0 4294967308\r\nalice secret\r\n", "alice/secret; waits with 0"},
		{"set a 0 0 15\r\n  alice  secret\r\n", "alice/secret; waits with 0"},
		{"set a 0 0 14\r\nalice secret x\r\n", "alice/secret; waits with 0"},
		{"set a 0 0 18\r\nalice secret\x00trail\r\n", "alice/secret; waits with 0"},
		{"get x\r\nquit\r\n\x80\r\n", no + no + no + "waits with 0"},
		{"\n", "waits with 1"},
		{"\n\n", no + "waits with 1"},
		{"set a\x00 0 0 12\r\n", no + "waits with 0"},
		{"set a 0 0\r\n", no + "waits with 0"},
		{"set a 0 0 -1\r\n", no + "waits with 0"},
		{"set a 0 0 12x\r\n", no + "waits with 0"},
		{"set a 0 0 99999999999999999999999\r\n", no + "waits with 0"},
		{"set a 0 0 6\r\nalice \r\n", "CLIENT_ERROR bad authentication token format; waits with 0"},
		{"set a 0 0 0\r\n\r\nget x\r\n", "CLIENT_ERROR bad authentication token format; " + no + "waits with 0"},
		{"set a 0 0 12\r\nalice secret\n\n", "CLIENT_ERROR bad command line termination; waits with 0"},
		{"set a 0 0 4294967294\r\nx\r\n", "CLIENT_ERROR bad command line termination; " + no + "waits with 0"},
		{"set a 0 0 4294967295\r\nxy\r\n", "CLIENT_ERROR bad command line termination; " + no + "waits with 0"},
		{"set a 0 0 2147483646\r\nx", "closes"},
		{"set a 0 0 4294967293\r\nx", "closes"},
		{y[:2048], "waits with 2048"},
		{y[:2049], "closes"},
		{y[:16383] + "\n", no + "waits with 0"},
		{y[:16384] + "\n", "closes"},
		{"set a 0 0 16382\r\n" + y[:16382] + "\r\n", "CLIENT_ERROR bad authentication token format; waits with 0"},
		{"set a 0 0 16383\r\n" + y[:16384], "waits with 16401"},
		{"set a 0 0 16383\r\n" + y[:16383] + "\r\n", "closes"},
		{"set a 0 0 2147483645\r\n" + y[:16385], "closes"},
	} {
		if got := told([]byte(test.in)); got != test.want {
			t.Errorf("%.40q…: %s, want %s", test.in, got, test.want)
		}
	}
}

// However the input arrives, no more waits than the bound says, need is never
// too large, and a command that was read stays as it is.
//
// promise: R2, R4
func FuzzParseAuth(f *testing.F) {
	for _, in := range []string{"set auth 0 0 12\r\nalice secret\r\nget x\r\n", "get x\r\n", "\n", "set a 0 0 4294967295\r\nx\r\n", "set a 0 0 20000\r\n"} {
		f.Add([]byte(in), uint16(7))
	}
	f.Fuzz(func(t *testing.T, in []byte, pad uint16) {
		in = append(in, bytes.Repeat([]byte{'y'}, int(pad))...)
		var whole Auth
		n, need := ParseAuth(in, &whole)
		if n == 0 && len(in) > AuthInput {
			t.Fatalf("%d bytes wait", len(in))
		}
		if n > len(in) || n == 0 && need != 0 && need <= len(in) {
			t.Fatalf("n %d, need %d of %d", n, need, len(in))
		}
		if n < 2 || whole.Close {
			return
		}
		var part Auth
		if k, need := ParseAuth(in[:n], &part); k != n {
			t.Errorf("without what follows: %d of %d bytes, need %d", k, n, need)
		}
		if len(in) <= maxCommandLine {
			if k, need := ParseAuth(in[:n-1], &part); k == n || need > n {
				t.Errorf("one byte less: took %d of %d, need %d", k, n, need)
			}
		}
	})
}

// promise: R4
func TestAnswersThatAskForAProof(t *testing.T) {
	for _, line := range []string{
		"CLIENT_ERROR unauthenticated", "CLIENT_ERROR authentication failure", "CLIENT_ERROR bad authentication token format",
		"CLIENT_ERROR bad command line termination",
	} {
		if !AsksForProof([]byte(line)) {
			t.Errorf("%q", line)
		}
	}
	for _, line := range []string{"", "STORED", "CLIENT_ERROR", "CLIENT_ERROR bad command line format", "CLIENT_ERROR unauthenticated "} {
		if AsksForProof([]byte(line)) {
			t.Errorf("%q", line)
		}
	}
}
