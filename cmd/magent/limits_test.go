package main

import (
	"strings"
	"testing"

	"magent/proxy"
)

// promise: L1
func TestFitToTheFileLimit(t *testing.T) {
	o := proxy.Defaults()
	o.Primaries, o.Backups = []string{"a", "b"}, []string{"c"}
	others := int(otherFiles(&o))
	o.MaxClients = 1000
	if warning, err := fit(&o, uint64(1000+others)); warning != "" || err != nil || o.MaxClients != 1000 {
		t.Errorf("where it fits: warning %q, error %v, %d clients", warning, err, o.MaxClients)
	}
	warning, err := fit(&o, uint64(100+others))
	if err != nil || o.MaxClients != 100 || !strings.Contains(warning, "1000") || !strings.Contains(warning, "ulimit -n") {
		t.Errorf("where it does not fit: warning %q, error %v, %d clients", warning, err, o.MaxClients)
	}
	if _, err := fit(&o, uint64(others)); err == nil {
		t.Error("where no client fits there is no error")
	}
}
