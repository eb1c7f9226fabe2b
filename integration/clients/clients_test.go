package clients

import (
	"cmp"
	"os"
	"testing"

	"magent/integration/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv(driverEnv) != "" {
		if err := driveGomemcache(os.Args[1], os.Args[2]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(harness.Main(m))
}

// promise: W1, W2, W3, W4, W5, C3, C4
func TestClientsSeeWhatMemcachedShowsThem(t *testing.T) {
	var table table
	t.Run("with", func(t *testing.T) {
		for _, c := range clients {
			t.Run(cmp.Or(c.label, c.name), func(t *testing.T) {
				t.Parallel()
				c.check(t)
				version := c.installed(t)
				argv := c.run
				if c.prepare != nil {
					argv = c.prepare(t)
				}
				for _, protocol := range c.protocols {
					t.Run(version+"/"+protocol, func(t *testing.T) {
						t.Parallel()
						direct := runBoth(t, argv, c.env, protocol)
						table.add(c, version, protocol, operations(direct))
					})
				}
			})
		}
		t.Run(capableName, func(t *testing.T) {
			t.Parallel()
			version := capableVersion(t)
			for protocol, flag := range map[string]string{"text": "-a", "binary": "-b"} {
				t.Run(protocol, func(t *testing.T) {
					t.Parallel()
					table.add(client{name: capableName, language: "C"}, version, protocol, runCapable(t, flag))
				})
			}
		})
	})
	table.check(t)
}

// runBoth runs a driver against memcached and through magent, kills the primary
// where the driver waits for that, compares, and returns what the driver wrote
// about memcached.
func runBoth(t *testing.T, argv, env []string, protocol string) []string {
	t.Helper()
	alone := harness.StartMemcached(t)
	primary, backup := harness.StartMemcached(t), harness.StartMemcached(t)
	magent := harness.StartMagent(t, harness.Config{Primaries: []string{primary.Addr}, Backups: []string{backup.Addr}, Args: patient})

	// Both run at the same time: they wait for items to expire most of it.
	direct := startDriver(t, "of memcached", argv, env, alone.Addr, protocol)
	through := startDriver(t, "of magent", argv, env, magent.Addr, protocol)
	if !direct.untilReady() {
		t.FailNow()
	}
	want := direct.goOn()
	checkSurvival(t, "memcached, which did not die", want)
	if !through.untilReady() {
		compare(t, want, through.lines)
		return want
	}
	primary.Kill()
	got := through.goOn()
	checkSurvival(t, "magent", got)
	compare(t, want, got)
	return want
}
