// Command bench compares magent with nutcracker (twemproxy) and with memcached
// itself, in one run.
//
//	go run ./integration/bench --magent ./magent
//
// Each measurement starts its own memcached servers and its own proxy, puts
// load on them with integration/loadgen, and ends them again, so that nothing
// else runs meanwhile. The proxy has one core for itself; the load generator
// and the servers share another. The targets take turns within each round,
// because a machine's speed drifts; ratios are taken within a round, and every
// figure reported is the median over the rounds.
//
//	main.go       flags; what is measured, and how it ends
//	process.go    a child process: pinned to a core, ended by its pid
//	stage.go      servers and proxy of one measurement
//	target.go     what is compared: magent, nutcracker, memcached
//	workload.go   the kinds of load
//	measure.go    the rounds, and one measurement with loadgen
//	summary.go    medians and ratios
//	aims.go       what magent wants to reach
//	screen.go     the progress line
//	report.go     the tables, as text and as markdown
//	machine.go    the machine and the versions, for the report
//	protocols.go  classic text, meta commands and the binary protocol compared
//	memory.go     memory of a proxy per idle client
//	recovery.go   how a server that comes back empty is filled, and what
//	              clients notice of it; recovery_report.go shows that
//
// A stage owns its processes; closing it ends them, also after an error or an
// interrupt. All processes are started on the main thread, so that the kernel
// ends them should bench be killed with KILL; only memcached loses this when it
// changes its user.
package main
