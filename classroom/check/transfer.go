package check

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"example.com/etcd-by-example/classroom/history"
)

// Exercise 07 moves money once, whatever happens to its calls and to the accounts.
var transfer = Exercise{"07-transfer", []scenario{
	{name: "start", play: func(r *round) {
		// Who has written the answer down has taken it from the exercise's text.
		r.put(account("alice"), strconv.Itoa(200+rand.IntN(700)), account("bob"), strconv.Itoa(20+rand.IntN(70)))
		moveTen(r)
	}},
	{name: "payer", play: func(r *round) {
		r.put(account("alice"), "100", account("bob"), "20")
		moveTenStruck(r, writes(accounts), func(c *call) {
			r.tell("While the program's write was on the way, alice paid 50 to carol at revision %d.",
				r.put(account("alice"), "50", account("carol"), "50"))
			c.pass()
		})
	}},
	{name: "payee", play: func(r *round) {
		r.put(account("alice"), "100", account("bob"), "20", account("carol"), "50")
		moveTenStruck(r, writes(accounts), func(c *call) {
			r.tell("While the program's write was on the way, carol paid 30 to bob at revision %d.",
				r.put(account("bob"), "50", account("carol"), "20"))
			c.pass()
		})
	}},
	{name: "lost call", play: func(r *round) {
		r.put(account("alice"), "100", account("bob"), "20")
		moveTenStruck(r, writes(accounts), func(c *call) {
			r.tell("The program's write got lost on the way to etcd.")
			c.lose()
		})
	}},
	{name: "lost answer", play: func(r *round) {
		r.put(account("alice"), "100", account("bob"), "20")
		moveTenStruck(r, wrote(accounts), func(c *call) {
			r.tell("etcd did the program's write at revision %d, but the answer got lost.", c.revision())
			c.lose()
		})
	}},
	{name: "lost answer and restored", play: func(r *round) {
		r.put(account("alice"), "100", account("bob"), "20", account("carol"), "50")
		moveTenStruck(r, wrote(accounts), func(c *call) {
			made := c.revision()
			r.tell("etcd did the program's write at revision %d. carol paid 10 to alice at revision %d, so that alice had "+
				"as much as before, and the answer got lost.", made,
				r.put(account("alice"), "100", account("carol"), "40"))
			c.lose()
		})
	}},
	{name: "made before", play: func(r *round) {
		r.put(account("alice"), "100", account("bob"), "20")
		moveTen(r)
		r.tell("t1 was made at revision %d, and the program was run again with the same id.", r.sync())
		moveTen(r)
	}},
	{name: "poor", play: func(r *round) {
		r.put(account("alice"), "5", account("bob"), "20")
		r.tell("alice had 5.")
		moveTen(r)
	}},
	{name: "poor by a race", play: func(r *round) {
		r.put(account("alice"), "100", account("bob"), "20")
		moveTenStruck(r, writes(accounts), func(c *call) {
			r.tell("While the program's write was on the way, alice paid 95 to carol at revision %d.",
				r.put(account("alice"), "5", account("carol"), "95"))
			c.pass()
		})
	}},
	{name: "twelve", members: 3, play: func(r *round) {
		r.put(account("alice"), "100", account("bob"), "20")
		var programs []*program
		for n := range 12 {
			programs = append(programs, r.program(transferArgs(fmt.Sprintf("t%d", n+1))...))
		}
		for _, p := range programs {
			p.start()
		}
		r.wait(r.granted(transferLimit), func() bool { return r.history().Last() > 2 })
		r.tell("Twelve transfers of 10 were asked for at once, alice had 100, and the leader was killed at revision %d.", r.sync())
		r.killLeader()
		for _, p := range programs {
			p.end(transferLimit)
		}
		judgeTransfers(r, programs)
	}},
}}

const (
	accounts = "/bank/accounts/"
	receipts = "/bank/transfers/"

	// transferLimit is what a transfer may take: etcd is back before 10 s are over.
	transferLimit = 20 * time.Second
)

func account(name string) string { return accounts + name }

func transferArgs(id string) []string {
	return []string{"-id", id, "-from", "alice", "-to", "bob", "-amount", "10"}
}

// moveTen runs t1, and judges all that was done of it.
func moveTen(r *round) { runTransfer(r.program(transferArgs("t1")...)) }

// moveTenStruck strikes t1 at one call.
func moveTenStruck(r *round, matches matcher, act func(*call)) {
	p := r.program(transferArgs("t1")...)
	p.strike("a write of the accounts", matches, act)
	runTransfer(p)
}

func runTransfer(p *program) {
	p.run(transferLimit)
	judgeTransfers(p.round, []*program{p})
}

// judgeTransfers judges the transfers of 10 from alice to bob that the programs, which
// have ended, were to make.
func judgeTransfers(r *round, programs []*program) {
	made := map[string]int64{} // the revisions, by the ID
	for _, c := range r.changes(receipts) {
		id := strings.TrimPrefix(c.Key, receipts)
		if made[id] != 0 {
			r.refuse(c.Revision, "%s was made at revision %d, and again at revision %d. "+
				"After an error, who can tell whether a write was done?", id, made[id], c.Revision)
		}
		made[id] = c.Revision
	}
	byRevision := map[int64]string{}
	for id, revision := range made {
		byRevision[revision] = id
	}
	moved := map[int64]int{}
	for _, c := range r.changes(accounts) {
		if byRevision[c.Revision] == "" {
			r.refuse(c.Revision, "At revision %d money moved, and no receipt was put. "+
				"Had the program been stopped just then, who would know that it has moved?", c.Revision)
		}
		by := map[string]int{account("alice"): -10, account("bob"): 10}[c.Key]
		if was, is := balance(c.Before), balance(c.After); is != was+by {
			r.refuse(c.Revision, "At revision %d %s went from %d to %d. The balance that was read was not "+
				"the one that was replaced.", c.Revision, strings.TrimPrefix(c.Key, accounts), was, is)
		} else if is < 0 {
			r.refuse(c.Revision, "At revision %d %s has %d. How much somebody has, only a read of the same "+
				"moment can tell.", c.Revision, strings.TrimPrefix(c.Key, accounts), is)
		}
		moved[c.Revision]++
	}
	for id, revision := range made {
		if moved[revision] != 2 {
			r.refuse(revision, "At revision %d %s has a receipt, but not both accounts have changed. "+
				"What belongs together has to be done in one revision.", revision, id)
		}
	}
	for _, p := range programs {
		id := p.args[1]
		switch {
		case p.status == 0 && made[id] == 0:
			r.refuse(0, "%s ended with status 0, but it was never made. "+
				"Who says that money has moved has to know it from etcd.", id)
		case p.status != 0 && made[id] != 0:
			r.refuse(made[id], "%s was made at revision %d, but it ended with status %d: %s. "+
				"An error of a write says: I do not know.", id, made[id], p.status, p.lastWords())
		case p.status != 0 && balance(r.at(r.sync()).Get(account("alice"))) >= 10:
			r.refuse(0, "%s ended with status %d, and alice has the money: %s. "+
				"Too little money is the only reason to give up.", id, p.status, p.lastWords())
		case p.status > 1:
			r.refuse(0, "%s ended with status %d: %s. Too little money is status 1.", id, p.status, p.lastWords())
		}
	}
}

// balance is what an account holds: nothing when there is none.
func balance(kv *history.KeyValue) int {
	if kv == nil {
		return 0
	}
	n, _ := strconv.Atoi(kv.Value)
	return n
}
