package harness

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The environment variables that name the programs under test. Set one before
// `go test` to test a program that was built elsewhere.
const (
	// BinaryEnv is the magent that most tests run, built with the race detector.
	BinaryEnv = "MAGENT_BINARY"
	// PlainBinaryEnv is the magent for tests that measure memory or time,
	// built without the race detector.
	PlainBinaryEnv = "MAGENT_PLAIN_BINARY"
	// MemcachedEnv is the memcached that every test runs behind magent. Unset,
	// it is the system's.
	MemcachedEnv = "MAGENT_MEMCACHED"
)

// Main is the whole of a TestMain: it builds magent once with the race
// detector and once without, runs the tests and returns their exit status.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "magent-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot make a directory for the program under test:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// A program that drops its privileges still has to be able to run from there.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := build(dir, "race", BinaryEnv, "-race"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := build(dir, "plain", PlainBinaryEnv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build makes dir/kind/magent and names it in the environment, unless the
// environment names a program already.
func build(dir, kind, env string, flags ...string) error {
	if os.Getenv(env) != "" {
		return nil
	}
	path := filepath.Join(dir, kind, "magent")
	args := append([]string{"build", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, "magent/cmd/magent")...)
	cmd.Env = os.Environ()
	if kind == "race" {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build of magent failed: %w\n%s", err, out)
	}
	return os.Setenv(env, path)
}

// Binary returns the path of the magent built with the race detector.
func Binary(tb testing.TB) string {
	tb.Helper()
	return fromEnv(tb, BinaryEnv)
}

// PlainBinary returns the path of the magent built without the race detector.
func PlainBinary(tb testing.TB) string {
	tb.Helper()
	return fromEnv(tb, PlainBinaryEnv)
}

// MemcachedBinary returns the path or the name of the memcached under test.
func MemcachedBinary() string { return cmp.Or(os.Getenv(MemcachedEnv), "memcached") }

func fromEnv(tb testing.TB, env string) string {
	tb.Helper()
	path := os.Getenv(env)
	if path == "" {
		tb.Fatalf("%s is not set: TestMain has to call harness.Main", env)
	}
	return path
}
