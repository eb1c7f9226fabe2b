package integration

import (
	"os"
	"testing"

	"magent/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
