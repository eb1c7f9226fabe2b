package proxy

// counters are what one worker counts for stats. Only its loop touches them.
type counters struct {
	requests, invalid                               uint64
	getKeys, getHits, getMisses                     uint64
	sets, flushes                                   uint64
	touches, touchHits, touchMisses                 uint64
	deleteHits, deleteMisses                        uint64
	incrHits, incrMisses                            uint64
	decrHits, decrMisses                            uint64
	casHits, casMisses, casBadval                   uint64
	authCmds, authErrors                            uint64
	bytesIn, bytesOut                               uint64
	idleKicks, shed, addressGone                    uint64
	mirrored, repairs, failovers                    uint64
	copied, copiesRefused                           uint64
	compared, divergent, looksMissed                uint64
	postponed, handovers, serverErrors, unreachable uint64
}

// add sums up the counters of several workers.
func (c *counters) add(o *counters) {
	for _, pair := range [][2]*uint64{
		{&c.requests, &o.requests}, {&c.invalid, &o.invalid},
		{&c.getKeys, &o.getKeys}, {&c.getHits, &o.getHits}, {&c.getMisses, &o.getMisses},
		{&c.sets, &o.sets}, {&c.flushes, &o.flushes},
		{&c.touches, &o.touches}, {&c.touchHits, &o.touchHits}, {&c.touchMisses, &o.touchMisses},
		{&c.deleteHits, &o.deleteHits}, {&c.deleteMisses, &o.deleteMisses},
		{&c.incrHits, &o.incrHits}, {&c.incrMisses, &o.incrMisses},
		{&c.decrHits, &o.decrHits}, {&c.decrMisses, &o.decrMisses},
		{&c.casHits, &o.casHits}, {&c.casMisses, &o.casMisses}, {&c.casBadval, &o.casBadval},
		{&c.authCmds, &o.authCmds}, {&c.authErrors, &o.authErrors},
		{&c.bytesIn, &o.bytesIn}, {&c.bytesOut, &o.bytesOut},
		{&c.idleKicks, &o.idleKicks}, {&c.shed, &o.shed}, {&c.addressGone, &o.addressGone},
		{&c.mirrored, &o.mirrored}, {&c.repairs, &o.repairs}, {&c.failovers, &o.failovers},
		{&c.copied, &o.copied}, {&c.copiesRefused, &o.copiesRefused},
		{&c.compared, &o.compared}, {&c.divergent, &o.divergent}, {&c.looksMissed, &o.looksMissed},
		{&c.postponed, &o.postponed}, {&c.handovers, &o.handovers}, {&c.serverErrors, &o.serverErrors}, {&c.unreachable, &o.unreachable},
	} {
		*pair[0] += *pair[1]
	}
}
