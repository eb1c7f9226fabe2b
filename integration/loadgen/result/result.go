// Package result is what one run of loadgen reports, as JSON: loadgen writes
// it, bench reads it. It holds data only and owns nothing.
package result

// Result is one run of the load generator. Times are microseconds unless the
// name says otherwise; all counts are those of the measured time, after the
// warm-up.
type Result struct {
	Address   string `json:"address"`
	Protocol  string `json:"protocol"` // text, meta or binary
	Clients   int    `json:"clients"`
	Pipeline  int    `json:"pipeline"`
	ValueSize int    `json:"value_size"`
	Keys      int    `json:"keys"`
	Ratio     string `json:"ratio"`    // gets:sets
	Multiget  int    `json:"multiget"` // keys in one get

	Seconds       float64 `json:"seconds"` // length of the measured time
	Operations    uint64  `json:"operations"`
	OpsPerSecond  float64 `json:"ops_per_second"`
	KeysPerSecond float64 `json:"keys_per_second"` // a get of 50 keys is one operation and 50 keys
	Latency       Latency `json:"latency_us"`

	Gets        uint64 `json:"gets"`
	Sets        uint64 `json:"sets"`
	Hits        uint64 `json:"hits"`   // keys found
	Misses      uint64 `json:"misses"` // keys not found
	Errors      uint64 `json:"errors"` // error answers, and requests that a closed connection left unanswered
	Wrong       uint64 `json:"wrong"`  // values that do not belong to the key, and answers that cannot be read
	Disconnects uint64 `json:"disconnects"`
	Unanswered  uint64 `json:"unanswered"` // requests with no answer when the time to finish was over
	FirstError  string `json:"first_error,omitempty"`

	// OwnCPU is the processor time of loadgen for one operation: what it adds
	// to the load of the core it shares with the servers.
	OwnCPU float64 `json:"own_cpu_us_per_op"`
	// CPU is, for each watched process, its processor time for one operation.
	CPU map[string]float64 `json:"cpu_us_per_op,omitempty"`
	// OthersBusy is how many processors all other programs kept busy, and Stolen
	// how many other machines on the same hardware took: both disturb the run.
	OthersBusy float64 `json:"others_busy"`
	Stolen     float64 `json:"stolen"`
}

// Latency is the distribution of the time from sending a batch of requests to
// each of its answers, in microseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Faults is how many answers were not as they should be.
func (r *Result) Faults() uint64 {
	return r.Errors + r.Wrong + r.Disconnects + r.Unanswered
}
