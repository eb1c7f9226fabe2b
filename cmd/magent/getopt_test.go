package main

import (
	"slices"
	"strings"
	"testing"
)

// promise: L1
func TestGetoptSpellings(t *testing.T) {
	rows := table(defaultSettings())
	for _, c := range []struct{ in, want string }{
		{"-p 12000", "--port=12000"},
		{"-p12000", "--port=12000"},
		{"--port 12000", "--port=12000"},
		{"--port=12000", "--port=12000"},
		{"-p -1", "--port=-1"},
		{"-p-1", "--port=-1"},
		{"-kD", "--ketama=true --foreground=true"},
		{"-Dkp12000", "--foreground=true --ketama=true --port=12000"},
		{"-kDp 12000 -v", "--ketama=true --foreground=true --port=12000 --verbose=true"},
		{"-s a -s b", "--server=a --server=b"},
		{"-s a,b -b c", "--server=a,b --backup=c"},
		{"-sa:11211", "--server=a:11211"},
		{"-u root -g wheel", "--user=root --group=wheel"},
		{"-l ::1", "--listen=::1"},
		{"-f /run/magent.sock -a 0770", "--socket=/run/magent.sock --socket-mode=0770"},
		{"-n 51200 -i 40", "--max-clients=51200 --max-server-connections=40"},
		{"-c 51200", "--max-clients=51200"},
		{"-P /run/magent.pid -d", "--pid-file=/run/magent.pid --background=true"},
		{"--foreground=false", "--foreground=false"},
		{"-s a --", "--server=a"},
		{"-s --", "--server=--"},
		{"-s -", "--server=-"},
		{"-vv", "--verbose=true --verbose=true"},
		{"", ""},
	} {
		r, err := normalize(rows, strings.Fields(c.in))
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if got := strings.Join(r.args, " "); got != c.want {
			t.Errorf("%q is read as %q, want %q", c.in, got, c.want)
		}
		if r.help || r.version {
			t.Errorf("%q asks for help or version", c.in)
		}
	}
}

// promise: L1
func TestHelpAndVersionAnywhere(t *testing.T) {
	rows := table(defaultSettings())
	for _, line := range []string{"-h", "--help", "help", "-s a -h", "-Dh", "-p 12000 --help"} {
		if r, err := normalize(rows, strings.Fields(line)); err != nil || !r.help {
			t.Errorf("%q: help %v, error %v", line, r.help, err)
		}
	}
	for _, line := range []string{"-V", "--version", "version", "-s a --version"} {
		if r, err := normalize(rows, strings.Fields(line)); err != nil || !r.version {
			t.Errorf("%q: version %v, error %v", line, r.version, err)
		}
	}
}

// promise: L6
func TestGetoptMistakes(t *testing.T) {
	rows := table(defaultSettings())
	for _, c := range []struct {
		in   []string
		want string
	}{
		{[]string{"-x"}, "unknown flag -x: magent --help lists them all"},
		{[]string{"-kx"}, "unknown flag -x: magent --help lists them all"},
		{[]string{"--sever=a"}, "unknown flag --sever: did you mean --server?"},
		{[]string{"--frobnicate"}, "unknown flag --frobnicate: magent --help lists them all"},
		{[]string{"-p"}, "flag -p needs a value: write -p PORT"},
		{[]string{"-kp"}, "flag -p needs a value: write -p PORT"},
		{[]string{"-s", "-b", "a"}, "flag -s needs a value: write -s HOST[:PORT[:WEIGHT]]"},
		{[]string{"--port"}, "flag --port needs a value: write --port PORT"},
		{[]string{"--port", "--backup=a"}, "flag --port needs a value: write --port PORT"},
		{[]string{"--port="}, "the value of flag --port is empty: write --port PORT"},
		{[]string{"-l", "", "-s", "a"}, "the value of flag -l is empty: write -l ADDRESS[:PORT]"},
		{[]string{"-s", "a", "12000"}, `unexpected argument "12000": every value belongs to a flag, such as -s HOST:PORT`},
		{[]string{"--", "-s", "a"}, `unexpected argument "-s": every value belongs to a flag, such as -s HOST:PORT`},
	} {
		_, err := normalize(rows, c.in)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: error %v, want %q", c.in, err, c.want)
		}
	}
}

func TestLettersAndNamesAreUnique(t *testing.T) {
	var names, letters []string
	for _, row := range table(defaultSettings()) {
		if slices.Contains(names, row.name) {
			t.Errorf("--%s is there twice", row.name)
		}
		names = append(names, row.name)
		for _, letter := range row.aliases() {
			if slices.Contains(letters, letter) {
				t.Errorf("-%s is there twice", letter)
			}
			letters = append(letters, letter)
		}
	}
	// promise: L1: the C program's letters.
	for _, letter := range strings.Split("hugpsblnDkfivP", "") {
		if !slices.Contains(letters, letter) {
			t.Errorf("-%s is missing", letter)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"server", "sever", 1}, {"port", "prot", 2}, {"kitten", "sitting", 3}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("from %q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
