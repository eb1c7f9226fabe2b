package harness

// Crash ends magent with SIGKILL, as a crash or a power failure would, and
// waits until it is gone. The end of the test does not miss it then.
func (m *Magent) Crash() {
	m.stopped = true
	m.Kill()
}
