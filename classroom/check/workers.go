package check

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Exercise 08 does each job once, and fences each result with the token of its lock.
// All workers have the same name.
var workers = Exercise{"08-workers", []scenario{
	{name: "start", play: func(r *round) {
		giveJobs(r, 3)
		alone := worker(r, 60, quickWork)
		alone.start()
		finish(r, alone)
		noLeaseLeft(r)
	}},
	{name: "old list", play: func(r *round) {
		giveJobs(r, 6)
		late := worker(r, 60, quickWork)
		c := strikeAt(late, "a write of a lock", writes(jobLocks))
		others := []*program{worker(r, 60, quickWork), worker(r, 60, quickWork)}
		for _, other := range others {
			other.start()
		}
		finish(r, others...)
		r.tell("A worker had seen that %s was to be done. While its call for the lock was on the way, "+
			"others did all jobs, the last one at revision %d.", c.job(jobLocks), lastResult(r))
		late.deliver(c)
		finish(r, late)
		noLeaseLeft(r)
	}},
	{name: "killed", play: func(r *round) {
		giveJobs(r, 3)
		killed := worker(r, 1, quickWork)
		c := strikeAt(killed, "a write of a lock", wrote(jobLocks))
		killed.kill()
		job, taken := c.job(jobLocks), c.revision()
		r.tell("A worker took the lock of %s at revision %d, and was killed.", job, taken)
		next := worker(r, 60, quickWork)
		next.start()
		limit := r.granted(lockLimit)
		if !r.wait(limit, func() bool {
			lock := r.history().Present().Get(jobLocks + job)
			return lock == nil || lock.Create != taken
		}) {
			r.refuse(taken, "After %v the lock is still there, and another worker waits for it. "+
				"What ends the lock of somebody who cannot say anything any more?", limit)
		}
		finish(r, next)
	}},
	{name: "long work", play: func(r *round) {
		giveJobs(r, 1)
		long := worker(r, 2, 3*time.Second)
		long.start()
		r.tell("The work took 3 s, with a -ttl of 2 s.")
		var lost []int64
		// A machine that stands still for a second may cost a right worker its lock, once.
		r.wait(r.granted(workLimit), func() bool {
			lost = nil
			for _, c := range r.changes(jobLocks) {
				_, done := r.value(c.Revision, jobResults+"job1")
				if c.After == nil && !done {
					lost = append(lost, c.Revision)
				}
			}
			return long.hasEnded() || len(lost) > 1
		})
		if len(lost) > 1 {
			r.refuse(lost[0], "The worker lost its lock at revision %d, before it had a result, and again at "+
				"revision %d. While it works, who tells etcd that it is alive?", lost[0], lost[1])
		}
		finish(r, long)
	}},
	{name: "frozen", play: func(r *round) {
		giveJobs(r, 1)
		frozen, c := freezeWorker(r)
		next := worker(r, 60, quickWork)
		next.start()
		finish(r, next)
		r.tell("Meanwhile another did the job, at revision %d. Then the result came to etcd, "+
			"and the first worker woke up.", lastResult(r))
		frozen.deliver(c)
		frozen.thaw()
		finish(r, frozen)
	}},
	{name: "frozen while the next works", play: func(r *round) {
		giveJobs(r, 1)
		frozen, c := freezeWorker(r)
		next := worker(r, 60, quickWork)
		strikeAt(next, "a write of a result", writes(jobResults))
		r.tell("Another of the same name took the lock at revision %d. While it worked, "+
			"the result of the first came to etcd.", token(r, "job1"))
		frozen.deliver(c)
		judgeResults(r)
		next.kill()
		endLeases(r)
		r.tell("The other was killed, its lease ended, and the first one woke up.")
		frozen.thaw()
		finish(r, frozen)
	}},
}}

const (
	jobsToDo   = "/cron/jobs/"
	jobLocks   = "/cron/lock/"
	jobResults = "/cron/done/"

	quickWork = 100 * time.Millisecond

	// workLimit is what workers may take, on a busy machine.
	workLimit = 20 * time.Second

	// lockLimit is what the lock of one that has died may last. etcd makes 2 s of a
	// -ttl of 1, and may need two more to end the lease.
	lockLimit = 8 * time.Second
)

// giveJobs puts so many jobs, with names that differ in their digits alone.
func giveJobs(r *round, n int) {
	r.put(append(beside(jobsToDo), jobsToDo+"job1", "run daily")...)
	for i := range n - 1 {
		r.put(jobsToDo+fmt.Sprint("job", i+2), "run daily")
	}
}

// worker prepares a worker. They all have the same name. With a ttl of 60 it keeps its
// lock however slow the machine is, until it ends or the judge ends the lease.
func worker(r *round, ttl int, work time.Duration) *program {
	p := r.program("-name", "ann", "-ttl", strconv.Itoa(ttl), "-work", work.String())
	p.out.judged = doneWords
	return p
}

// strikeAt starts a worker and returns the first message that matches, which is held.
// A worker that never sends it is refused for what it has done instead.
func strikeAt(p *program, what string, matches matcher) *call {
	s := p.strike(what, matches, func(*call) {})
	p.start()
	p.round.wait(p.round.granted(workLimit), func() bool { return s.struck || p.hasEnded() })
	if !s.struck {
		finish(p.round, p)
		p.round.confirm()
	}
	return s.call
}

// job is the one whose key with a prefix the call would write.
func (c *call) job(prefix string) string {
	for _, written := range c.Writes {
		if job, ok := strings.CutPrefix(written.Key, prefix); ok {
			return job
		}
	}
	return ""
}

// freezeWorker starts a worker, and freezes it with a result on the way, which it
// returns, until its lease has ended.
func freezeWorker(r *round) (*program, *call) {
	p := worker(r, 5, quickWork)
	c := strikeAt(p, "a write of a result", writes(jobResults))
	p.freeze()
	job := c.job(jobResults)
	held := token(r, job)
	endLeases(r)
	r.tell("A worker had the lock of %s, with token %d. It was frozen with the result on the way to etcd, "+
		"and the check ended its lease, at revision %d.", job, held, r.sync())
	return p, c
}

// token is that of a job's lock, and 0 when nobody has it.
func token(r *round, job string) int64 {
	lock := r.at(r.sync()).Get(jobLocks + job)
	if lock == nil {
		return 0
	}
	return lock.Create
}

// endLeases ends all leases. Those that nobody renews would end by themselves, later.
func endLeases(r *round) {
	for _, lease := range r.leases() {
		r.revoke(lease.ID)
	}
}

// finish waits until those workers have ended, and judges whether all jobs are done.
func finish(r *round, workers ...*program) {
	for _, w := range workers {
		w.end(workLimit)
	}
	judgeResults(r)
	for _, w := range workers {
		w.succeed(workLimit, "A worker that is late goes on with what is left: what made it give up?")
		judgeWords(w)
	}
	now := r.at(r.sync())
	for _, job := range r.all(jobsToDo) {
		name := strings.TrimPrefix(job.Key, jobsToDo)
		if now.Get(jobResults+name) == nil {
			r.refuse(0, "The program ended with status 0, but %s has no result. "+
				"A lock says that somebody has begun: what says that a job is done?", name)
		}
	}
}

// judgeResults judges the results that there are by now: one for each job, by the one
// who had the lock.
func judgeResults(r *round) {
	for _, c := range r.changes(jobResults) {
		job, result := strings.TrimPrefix(c.Key, jobResults), "nothing"
		if c.After != nil {
			result = c.After.Value
		}
		if r.at(c.Revision).Get(jobsToDo+job) == nil {
			r.refuse(c.Revision, "At revision %d the program put %s, and there is no such job under %s. "+
				"Which keys begin with what the program reads?", c.Revision, c.Key, jobsToDo)
		}
		if c.Before != nil {
			r.refuse(c.Revision, "%s was done twice: at revision %d with %s, and at revision %d with %s. "+
				"A worker may sleep after any look: who could compare in the very moment of writing?",
				job, c.Before.Mod, c.Before.Value, c.Revision, result)
		}
		holder := "nobody had its lock"
		if lock := r.at(c.Revision - 1).Get(jobLocks + job); lock != nil {
			holder = fmt.Sprint("its lock had token ", lock.Create)
		}
		if holder != "its lock had "+result {
			r.refuse(c.Revision, "At revision %d %s was done with %s, but %s. "+
				"What does a lock have that no lock before it had?", c.Revision, job, result, holder)
		}
	}
}

// judgeWords judges whether a worker says of no job that it has done it, when etcd has
// another's result.
func judgeWords(w *program) {
	for _, said := range doneWords.FindAllStringSubmatch(w.out.String(), -1) {
		result, _ := w.round.value(w.round.sync(), jobResults+said[1])
		if result != said[2] {
			w.round.refuse(0, "The worker said %q, but etcd has %s for that job. "+
				"A transaction that is refused is no error: what tells that it was?", said[0], result)
		}
	}
}

// doneWords are what a worker says of a job, and of its token.
var doneWords = regexp.MustCompile(`has done (\S+), (token [0-9]+)`)

// lastResult is the revision of the last one, when there are some.
func lastResult(r *round) int64 {
	changes := r.changes(jobResults)
	return changes[len(changes)-1].Revision
}

// noLeaseLeft judges what is left when all workers have ended by themselves.
func noLeaseLeft(r *round) {
	if left := len(r.leases()); left > 0 {
		r.refuse(0, "All workers have ended, but leases of theirs are left: %d. "+
			"A lease does not know that its program has ended: who tells etcd?", left)
	}
}
