package check

import (
	"maps"
	"slices"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/history"
)

// Exercise 05 keeps a key there for as long as the program lives, and no longer.
var lease = Exercise{"05-lease", []scenario{
	{name: "start", play: func(r *round) {
		// A lease that is left behind has to be there for as long as anybody looks.
		p := serve(r, 60)
		leave(r, p)
	}},
	{name: "revoked", play: func(r *round) {
		p := serve(r, 3)
		revokeServed(r, p)
		served(r, p)
	}},
	{name: "revoked twice", play: func(r *round) {
		p := serve(r, 3)
		revokeServed(r, p)
		served(r, p)
		revokeServed(r, p)
		served(r, p)
	}},
	{name: "revoked and Ctrl-C", play: func(r *round) {
		p := serve(r, 3)
		revokeServed(r, p)
		served(r, p)
		leave(r, p)
	}},
	{name: "frozen", play: func(r *round) {
		p := serve(r, 1)
		settle(p)
		p.freeze()
		if r.wait(longestLease, func() bool { return serving(r) == nil }) {
			r.tell("The program was frozen until its lease had ended, at revision %d. Then it woke up.", r.sync())
		} else {
			revokeServed(r, p) // It asked for a longer one.
		}
		p.thaw()
		served(r, p)
	}},
	{name: "leader killed", members: 3, play: func(r *round) {
		p := serve(r, 1)
		settle(p)
		r.killLeader()
		at := r.sync() // Then there is another leader.
		r.tell("The leader was killed at revision %d.", at)
		renewals, changes := renewed(r), len(r.changes(service))
		// The new leader has started the lease again. Who keeps it alive renews it, and
		// who cannot loses it.
		r.wait(longestLease, func() bool {
			return p.hasEnded() || len(r.changes(service)) > changes || renewed(r) > renewals
		})
		served(r, p)
	}},
	{name: "lost answer to Grant", play: func(r *round) {
		p := serve(r, 3)
		p.strike("an answer to Grant", answer(pb.Lease_LeaseGrant_FullMethodName), func(c *call) {
			r.tell("The program asked for another. The answer got lost, and the connection stayed.")
			c.drop()
		})
		revokeServed(r, p)
		served(r, p)
	}},
	{name: "successor", play: func(r *round) {
		p := serve(r, 60)
		settle(p)
		ctx, cancel := r.soon()
		defer cancel()
		grant, err := r.client.Grant(ctx, 60)
		r.must(err)
		put := r.commit(clientv3.OpPut(service, "10.0.0.3:80", clientv3.WithLease(grant.ID)))
		r.tell("A successor put %s with a lease of its own at revision %d.", service, put)
		leave(r, p)
		for _, c := range r.changes(service) {
			if c.Revision > put && c.After != nil {
				break // It wanted the key back, which nobody forbids.
			} else if c.Revision > put {
				r.refuse(c.Revision, "The program deleted it at revision %d, after Ctrl-C. "+
					"Whose key was that?", c.Revision)
			}
		}
	}},
	{name: "crash", play: func(r *round) {
		p := serve(r, 2)
		p.kill()
		r.tell("The program was killed, with a -ttl of 2 s.")
		const limit = (2 + 2) * time.Second
		if limit := r.granted(limit + grace); !r.wait(limit, func() bool { return serving(r) == nil }) {
			r.refuse(0, "After %v %s was still there. Who is sent to an address where nobody listens, "+
				"and for how long?", limit, service)
		}
	}},
}}

const (
	service = "/services/api/shop"
	address = "10.0.0.2:8080"

	// The key has to be back within absence, and the program gone within leaveLimit.
	absence    = 3 * time.Second
	leaveLimit = 2 * time.Second

	// grace is for a busy machine.
	grace = 2 * time.Second

	// startLimit is for the program's start, which is nobody's absence.
	startLimit = 10 * time.Second

	// longestLease is what a lease of 2 s may take to end, with a new leader, too.
	longestLease = 10 * time.Second
)

// serve starts a service, and returns when it can be found.
func serve(r *round, ttl int) *program {
	p := r.program("-name", "shop", "-address", address, "-ttl", strconv.Itoa(ttl))
	p.start()
	r.wait(r.granted(startLimit), func() bool { return p.hasEnded() || serving(r) != nil })
	served(r, p)
	return p
}

// serving is the service's key, or nil.
func serving(r *round) *history.KeyValue { return r.history().Present().Get(service) }

// served waits until the service can be found again, from when it could do that, and
// judges how it was put.
func served(r *round, p *program) {
	r.wait(r.granted(absence+grace), func() bool { return p.hasEnded() || serving(r) != nil })
	for _, c := range r.changes(service) {
		switch {
		case c.After == nil:
		case c.After.Lease == 0:
			r.refuse(c.Revision, "At revision %d %s was put without a lease. "+
				"If the program crashed now, who would take the key away?", c.Revision, service)
		case c.After.Value != address:
			r.refuse(c.Revision, "At revision %d %s was put as %q, and -address was %s. "+
				"Where do the callers go?", c.Revision, service, c.After.Value, address)
		}
	}
	switch {
	case p.hasEnded():
		r.refuse(0, "The program ended with status %d: %s. "+
			"Nobody asked it to end: what made it give up?", p.status, p.lastWords())
	case serving(r) == nil:
		r.refuse(0, "For %v %s was not there, and the program was. "+
			"A lease that has ended does not come back: who notices, and what can begin again?",
			r.granted(absence+grace), service)
	}
}

// revokeServed ends the lease of the service's key, as if it had not been renewed in
// time.
func revokeServed(r *round, p *program) {
	settle(p)
	if kv := serving(r); kv != nil {
		r.revoke(clientv3.LeaseID(kv.Lease))
	}
	r.tell("Its lease ended at revision %d, and the key went along.", r.sync())
}

// settle waits until the first calls of the program are over, so that what comes is
// always amid the same ones.
func settle(p *program) { p.round.wait(time.Second, p.hasEnded) }

// leave ends the service with a Ctrl-C, and judges what it has left.
func leave(r *round, p *program) {
	settle(p)
	served(r, p)
	p.interrupt()
	p.end(leaveLimit + grace)
	// A lease whose ID never came to the program never had the key.
	left := map[int64]bool{}
	for _, c := range r.changes(service) {
		if c.After != nil {
			left[c.After.Lease] = true
		}
	}
	there := r.leases()
	maps.DeleteFunc(left, func(id int64, _ bool) bool {
		return !slices.Contains(there, clientv3.LeaseStatus{ID: clientv3.LeaseID(id)})
	})
	if kv := serving(r); kv != nil && left[kv.Lease] {
		r.refuse(kv.Mod, "After Ctrl-C the program ended with status %d, and %s was still there. "+
			"Who goes to that address until its lease runs out?", p.status, service)
	}
	p.succeed(leaveLimit+grace, "Ctrl-C is how it is meant to end: what failed?")
	if len(left) > 0 {
		r.refuse(0, "After Ctrl-C the program ended, and a lease of it was left. "+
			"Whom does that one keep alive?")
	}
}

// renewed is how often the lease of the service's key was seen to be renewed.
func renewed(r *round) int {
	now := r.history().Present()
	if kv := now.Get(service); kv != nil {
		for _, l := range now.Leases() {
			if l.ID == kv.Lease && l.Ended == history.Alive {
				return l.Renewals
			}
		}
	}
	return 0
}
