package check

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"example.com/etcd-by-example/classroom/relay"
)

// Exercise 02 counts each visitor once, in one revision with a receipt.
var put = Exercise{"02-put", []scenario{
	{name: "start", play: func(r *round) {
		// Who has written the answer down has taken it from the exercise's text.
		r.put(visits, strconv.Itoa(100+rand.IntN(900)))
		visit(r)
	}},
	{name: "empty", play: func(r *round) {
		r.tell("There was no key %s.", visits)
		visit(r)
	}},
	{name: "lost call", play: func(r *round) {
		r.put(visits, "41")
		p := r.program("-id", "ann")
		for _, told := range []string{"The program's write got lost on the way to etcd.",
			"So did the one after it.", "And the third."} {
			p.strike("a write of "+visits, writes(visits), func(c *call) {
				r.tell("%s", told)
				c.lose()
			})
		}
		runVisit(p)
	}},
	{name: "lost answer", play: struckVisit(wrote(visits), func(r *round, c *call) {
		r.syncTo(c.revision())
		r.tell("etcd did the program's write at revision %d, but the answer got lost.", c.revision())
		c.lose()
	})},
	{name: "another writer", play: struckVisit(writes(visits), func(r *round, c *call) {
		r.tell("While the program's write was on the way, ben counted at revision %d.", countBen(r))
		c.pass()
	})},
	{name: "lost answer and another writer", play: struckVisit(wrote(visits), func(r *round, c *call) {
		r.tell("etcd did the program's write at revision %d. Then ben counted at revision %d, and the answer "+
			"to the write got lost.", c.revision(), countBen(r))
		c.lose()
	})},
	{name: "lost call and another writer", play: struckVisit(writes(visits), func(r *round, c *call) {
		r.tell("The program's write got lost on the way to etcd, and ben counted at revision %d.", countBen(r))
		c.lose()
	})},
	{name: "late write", play: func(r *round) {
		r.put(visits, "41")
		p := r.program("-id", "ann")
		late := p.strike("a write of "+visits, writes(visits), func(c *call) { c.Conn.Cut() })
		p.strike("another look at "+visits, func(_ *round, m *relay.Message) bool {
			looked, tries := m.Answered && m.Reads.Under(visits), !m.Answered && m.Writes.Under(visits)
			return late.isTaken() && m.Call != late.call.Call && (looked || tries)
		}, func(c *call) {
			p.deliver(late.call)
			r.tell("The program's connection broke while its write was on the way. Only after its next look "+
				"at etcd the write came there, and was done at revision %d.", r.sync())
			c.pass()
		})
		runVisit(p)
	}},
	{name: "same id", play: func(r *round) {
		r.put(visits, "41")
		visit(r)
		r.tell("ann was counted at revision %d, and the program was run again with the same id.", r.sync())
		visit(r)
	}},
}}

const (
	visits = "/visits"

	// visitLimit is what a visit may take: etcd is always there.
	visitLimit = 10 * time.Second
)

// countBen counts another visitor, and returns the revision.
func countBen(r *round) int64 {
	now := r.sync()
	value, _ := r.value(now, visits)
	count, _ := strconv.Atoi(value)
	return r.put(visits, strconv.Itoa(count+1),
		visits+"/by/ben", fmt.Sprintf("visits %d, was %d", count+1, count))
}

// struckVisit is a round in which ann's visit is struck at one call.
func struckVisit(matches matcher, act func(*round, *call)) func(*round) {
	return func(r *round) {
		r.put(visits, "41")
		p := r.program("-id", "ann")
		p.strike("a write of "+visits, matches, func(c *call) { act(r, c) })
		runVisit(p)
	}
}

// visit runs the program for ann, and judges all that was done for her.
func visit(r *round) { runVisit(r.program("-id", "ann")) }

func runVisit(p *program) {
	r := p.round
	p.run(visitLimit)
	counted := r.changes(visits)
	var revisions []int64
	for _, c := range counted {
		if c.Key == visits {
			revisions = append(revisions, c.Revision)
		}
	}
	if len(revisions) > 1 {
		r.refuse(revisions[1], "ann was counted at revision %d, and again at revision %d. "+
			"After an error, who can tell whether a write was done?", revisions[0], revisions[1])
	}
	if p.status != 0 && len(revisions) > 0 {
		r.refuse(revisions[0], "ann was counted at revision %d, but then the program ended with status %d: %s. "+
			"What does it not expect in etcd's answer?", revisions[0], p.status, p.lastWords())
	}
	p.succeed(visitLimit, "ann waits to be counted: what made the program give up?")
	if len(revisions) == 0 {
		r.refuse(0, "The program ended with status 0, but %s was never changed. "+
			"Who says that ann is counted has to know it from etcd.", visits)
	}
	at := revisions[0]
	was, there := r.value(at-1, visits)
	count, _ := strconv.Atoi(was)
	if !there {
		was = "nothing"
	}
	if now, _ := r.value(at, visits); now != strconv.Itoa(count+1) {
		r.refuse(at, "At revision %d the program put %s, and replaced %s. To which number did it add one?", at, now, was)
	}
	line := fmt.Sprintf("visits %d, was %s", count+1, was)
	receipt, _ := r.value(at, visits+"/by/ann")
	switch {
	case receipt == "":
		r.refuse(at, "ann was counted at revision %d, where there was no receipt. "+
			"Had the program been stopped just then, who would know that she is counted?", at)
	case receipt != line:
		r.refuse(at, "At revision %d %s went from %s to %d, but the receipt says %q. "+
			"What a read has told may be over when the write is done.", at, visits, was, count+1, receipt)
	case strings.TrimSpace(p.out.String()) != line:
		r.refuse(at, "At revision %d the receipt says %q, but the program printed %q. "+
			"A caller knows only what is printed.", at, line, p.out.String())
	}
	if len(counted) > 2 {
		last := counted[len(counted)-1]
		r.refuse(last.Revision, "ann was counted at revision %d, but %s was changed at revision %d as well. "+
			"One revision has room for all.", at, last.Key, last.Revision)
	}
}
