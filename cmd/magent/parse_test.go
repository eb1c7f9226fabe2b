package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// sample returns a value for a setting that differs from its default.
func sample(row setting) string {
	switch to := row.to.(type) {
	case *bool:
		return "true"
	case number:
		return fmt.Sprint(to.min + 7)
	case size:
		return "32m"
	case duration:
		return "7ms"
	case permissions:
		return "0750"
	case choice:
		for _, word := range to.from {
			if word != *to.to {
				return word
			}
		}
	}
	return "sample"
}

// value shows what a setting has become.
func value(row setting) string {
	switch to := row.to.(type) {
	case *bool:
		return fmt.Sprint(*to)
	case *string:
		return *to
	case *cli.StringSlice:
		return strings.Join(to.Value(), ",")
	case cli.Generic:
		return to.String()
	}
	return fmt.Sprintf("a %T", row.to)
}

// configured writes a config file.
func configured(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "magent.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// parsed parses what has to be right.
func parsed(t *testing.T, arguments ...string) *settings {
	t.Helper()
	s, _, err := parse(arguments, "/start")
	if err != nil {
		t.Fatalf("%q: %v", arguments, err)
	}
	return s
}

// Every setting can be given in all three ways and means the same.
// promise: L1
func TestEverySettingInEveryWay(t *testing.T) {
	for _, row := range table(defaultSettings()) {
		if row.flagOnly {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			text := sample(row)
			if text == value(row) {
				t.Fatalf("the sample %q is the default", text)
			}
			base := []string{"--server=sample"}
			of := func(s *settings) string { return value(*byName(table(s), row.name)) }
			want := text
			switch row.name {
			case "socket", "pid-file", "log-file", "in-flight-file", "auth-file", "server-auth-file":
				want = "/start/" + text
			case "server":
				base = nil
			}
			if got := of(parsed(t, append(base, "--"+row.name+"="+text)...)); got != want {
				t.Errorf("by the flag it is %q, want %q", got, want)
			}
			if row.letters != "" {
				arguments := append(base, "-"+row.letters[:1]+text)
				if row.value == "" {
					arguments = append(base, "-"+row.letters[:1])
				}
				if got := of(parsed(t, arguments...)); got != want {
					t.Errorf("by the letter it is %q, want %q", got, want)
				}
			}
			quoted := fmt.Sprintf("%q", text)
			if _, isNumber := row.to.(number); isNumber || row.value == "" {
				quoted = text
			}
			file := configured(t, row.name+" = "+quoted+"\n")
			if got := of(parsed(t, append(base, "--config", file)...)); got != want {
				t.Errorf("by the file it is %q, want %q", got, want)
			}
			t.Setenv(row.variable(), text)
			if got := of(parsed(t, base...)); got != want {
				t.Errorf("by the variable %s it is %q, want %q", row.variable(), got, want)
			}
		})
	}
}

// promise: L1
func TestPrecedence(t *testing.T) {
	file := configured(t, `
server = ["file1:11211", "file2"]
port = 1001
max-item-size = "2m"
server-timeout = "1s"
ketama = true
`)
	s := parsed(t, "--config", file)
	if got := strings.Join(s.proxy.Primaries, " "); got != "file1:11211 file2" || s.port != 1001 ||
		s.proxy.MaxItemSize != 2<<20 || s.proxy.ServerTimeout.String() != "1s" || !s.ketama {
		t.Errorf("by the file: servers %s, %+v", got, s)
	}
	t.Setenv("MAGENT_PORT", "1002")
	t.Setenv("MAGENT_SERVER", "env1,env2")
	t.Setenv("MAGENT_KETAMA", "false")
	t.Setenv("MAGENT_CONFIG", file)
	s = parsed(t)
	if got := strings.Join(s.proxy.Primaries, " "); got != "env1 env2" || s.port != 1002 || s.ketama || s.proxy.MaxItemSize != 2<<20 {
		t.Errorf("by the environment: servers %s, %+v", got, s)
	}
	s = parsed(t, "-p1003", "-s", "flag1", "--server", "flag2,flag3")
	if got := strings.Join(s.proxy.Primaries, " "); got != "flag1 flag2 flag3" || s.port != 1003 || s.proxy.MaxItemSize != 2<<20 {
		t.Errorf("by flags: servers %s, %+v", got, s)
	}
}

// An empty variable is as good as none.
func TestEmptyEnvironment(t *testing.T) {
	for _, row := range table(defaultSettings()) {
		if row.hasVariable() {
			t.Setenv(row.variable(), "")
		}
	}
	s := parsed(t, "-s", "a")
	if s.port != defaultPort || len(withoutEmpty(s.listen.Value())) != 0 || len(s.proxy.Backups) != 0 || len(s.proxy.Primaries) != 1 {
		t.Errorf("%+v", s)
	}
}

// What Kubernetes tells of a service that is called magent is no setting.
func TestServiceLinksInTheEnvironment(t *testing.T) {
	t.Setenv("MAGENT_PORT", "tcp://10.0.0.11:12000")
	t.Setenv("MAGENT_SERVICE_HOST", "10.0.0.11")
	if s := parsed(t, "-s", "a"); s.port != defaultPort {
		t.Errorf("port %d, want %d", s.port, defaultPort)
	}
}

// promise: L1, L6
func TestMistakesInSettings(t *testing.T) {
	for _, c := range []struct{ arguments, want string }{
		{"", "no server is given: name at least one memcached with -s, for example -s 192.0.2.1:11211"},
		{"-s a -p 0", "magent must listen on tcp or unix domain socket: give -p a port, or -f a path"},
		{"-s a -p abc", `invalid value "abc" for --port: give a whole number from -1 to 65535`},
		{"-s a -p 65536", `invalid value "65536" for --port: give a whole number from -1 to 65535`},
		{"-s a -n 0", `invalid value "0" for --max-clients: give a whole number from 1 to 10000000`},
		{"-s a --server-timeout 5", `invalid value "5" for --server-timeout: give a time with its unit from 1ms to 1h, for example 250ms or 2s`},
		{"-s a -I 1x", `invalid value "1x" for --max-item-size: give a size from 1 to 1g, for example 1m, 512k or 1048576`},
		{"-s a --max-memory 10x", `invalid value "10x" for --max-memory: give a size from 16m to 1048576g, for example 64m or 1g`},
		{"-s a -a 9", `invalid value "9" for --socket-mode: give permissions in octal, for example 0700 or 0770`},
		{"-s a --distribution modula", `invalid value "modula" for --distribution: choose ketama, magent-ketama or magent-modula`},
		{"-s a --ketama=maybe", `invalid boolean value "maybe" for --ketama: give true or false`},
		{"-s a -k --distribution magent-modula", "-k asks for a ketama ring and --distribution for magent-modula: leave one out"},
		{"-s a -d -D", "--background contradicts --foreground and --verbose: leave one out"},
	} {
		_, _, err := parse(strings.Fields(c.arguments), "/")
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: error %v\nwant %q", c.arguments, err, c.want)
		}
	}
}

// promise: L6
func TestMistakesInTheEnvironmentNameTheVariable(t *testing.T) {
	for variable, text := range map[string]string{"MAGENT_PORT": "abc", "MAGENT_KETAMA": "maybe", "MAGENT_MAX_ITEM_SIZE": "-1"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, text)
			_, _, err := parse([]string{"-s", "a"}, "/")
			if err == nil || !strings.Contains(err.Error(), variable) || !strings.Contains(err.Error(), "give ") {
				t.Errorf("error %v names neither the variable nor the mend", err)
			}
		})
	}
}

// promise: L1, L6
func TestMistakesInTheConfigFile(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"prot = 12000", `unknown key "prot": did you mean port?`},
		{"frobnicate = 1", `unknown key "frobnicate": the keys are the long names of the flags, see magent --help`},
		{"[server]\nname = \"a\"", `key "server": write server = ["HOST[:PORT[:WEIGHT]]"]`},
		{"server = [1]", `key "server": write server = ["HOST[:PORT[:WEIGHT]]"]`},
		{"port = \"12000\"", `key "port": give a whole number from -1 to 65535`},
		{"port = 70000", `key "port" has the value "70000": give a whole number from -1 to 65535`},
		{"ketama = 1", `key "ketama": write true or false without quotes`},
		{"server-timeout = 5", `key "server-timeout": write server-timeout = "250ms"`},
		{"server-timeout = \"5\"", `key "server-timeout" has the value "5": give a time with its unit`},
		{"config = \"x\"", `key "config" is a flag of the command line only`},
		{"help = true", `key "help" is a flag of the command line only`},
		{"port 12000", "line 1"},
	} {
		path := configured(t, c.text)
		_, _, err := parse([]string{"-s", "a", "--config", path}, "/")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v\nwant %q", c.text, err, c.want)
		}
	}
	if _, _, err := parse([]string{"-s", "a", "--config", "missing.toml"}, "/start"); err == nil || !strings.Contains(err.Error(), "/start/missing.toml") {
		t.Errorf("a missing file: error %v", err)
	}
}

func TestSizesInTheConfigFileMayBeNumbers(t *testing.T) {
	s := parsed(t, "-s", "a", "--config", configured(t, "max-item-size = 1048576"))
	if s.proxy.MaxItemSize != 1<<20 {
		t.Errorf("it is %d", s.proxy.MaxItemSize)
	}
}

// promise: L1
func TestVerboseIsForegroundAndDebug(t *testing.T) {
	s := parsed(t, "-s", "a", "-v")
	if !s.foreground || s.logLevel != "debug" {
		t.Errorf("foreground %v, level %s", s.foreground, s.logLevel)
	}
}

// promise: L7
func TestRestartNeededNamesWhatDiffers(t *testing.T) {
	old := parsed(t, "-s", "a")
	if names := old.restartNeeded(parsed(t, "-s", "b", "--max-clients", "5")); len(names) != 0 {
		t.Errorf("without a difference: %v", names)
	}
	got := old.restartNeeded(parsed(t, "-s", "a", "-l", "127.0.0.1", "-p", "1", "-u", "nobody", "-P", "x"))
	if strings.Join(got, " ") != "listen port user pid-file" {
		t.Errorf("it names %v", got)
	}
}
