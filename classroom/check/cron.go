package check

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/history"
)

// Exercise 09 runs each job once in a tick, whichever workers there are.
var cron = Exercise{"09-cron", []scenario{
	{name: "start", play: func(r *round) {
		c := newCrew(r, "backup", "clean")
		// Without renewals, the locks would be over before the work is.
		c.ttl, c.work, c.every = 2, r.granted(2800*time.Millisecond), r.granted(3*time.Second)
		ann := c.worker("ann")
		c.start(ann, 0)
		c.more(1, "backup", "clean")
		// In the middle of the work, the locks are held.
		c.until(c.begin(c.tick() + 1).Add(c.work / 3))
		r.tell("In tick %d ann got a Ctrl-C while it worked.", c.tick())
		c.alive = nil
		ann.interrupt()
		ann.succeed(c.work+2*time.Second+lateness, "Who is asked to stop has not failed.")
		c.judge()
		if n := len(r.leases()); n > 0 {
			r.refuse(0, "It has ended, and there are still %d of its leases. "+
				"Who waits for a lock that nobody gives back?", n)
		}
	}},
	{name: "clocks", play: func(r *round) {
		c := newCrew(r, "backup")
		ann, ben := c.worker("ann"), c.worker("ben")
		r.tell("ann's clock was 900 ms ahead of ben's.")
		c.start(ann, 900*time.Millisecond)
		c.start(ben, 0)
		c.more(3, "backup")
		// On a busy machine ann may lose its lead in each of the ticks.
		for c.early < 2 && c.ran["backup"] < 5 {
			c.more(1, "backup")
		}
	}},
	{name: "held lock", play: func(r *round) {
		c := newCrew(r, "backup")
		ann, ben := c.worker("ann"), c.worker("ben")
		first := ann.strike("a write of the lock", writes(cronLocks), func(*call) {})
		late := ben.strike("a write of the lock", writes(cronLocks), func(*call) {})
		c.start(ann, 0)
		c.start(ben, 0)
		c.within("backup", func() bool { return first.struck && late.struck })
		tick := c.tick()
		first.call.pass()
		c.within("backup", func() bool { return c.last["backup"] >= tick })
		ran := r.history().Last()
		// Some give the lock back then, and some keep it.
		r.wait(3*time.Second/2, func() bool { return r.history().Present().Get(cronLocks+"backup") == nil })
		r.tell("ann and ben found the lock free, and went to take it. ann was faster, and ran backup by "+
			"revision %d; ben's call came to etcd after revision %d.", ran, r.sync())
		late.call.pass()
		c.more(2, "backup")
	}},
	{name: "killed", play: func(r *round) {
		c := newCrew(r, "backup")
		ann := c.worker("ann")
		write := c.upToTheRun(ann)
		c.alive = nil
		ann.kill()
		write.drop()
		r.tell("ann had the lock and was killed at work, after revision %d. ben was there from then on.", r.sync())
		c.start(c.worker("ben"), 0)
		c.more(2, "backup")
	}},
	{name: "frozen", play: func(r *round) {
		c := newCrew(r, "backup")
		ann := c.worker("ann")
		write := c.upToTheRun(ann)
		ann.freeze()
		r.tell("ann stood still, with its run on the way to etcd. Its lease was over at revision %d.", c.takeLock("backup"))
		c.start(c.worker("ben"), 0)
		c.more(1, "backup")
		r.tell("ben ran backup by revision %d, and ann woke up.", r.sync())
		write.pass()
		ann.thaw()
		c.more(2, "backup")
	}},
	{name: "leader killed", members: 3, play: func(r *round) {
		c := newCrew(r, "backup")
		write := c.upToTheRun(c.worker("ann"))
		r.killLeader()
		write.lose()
		r.tell("The leader of etcd was killed, and ann's run got lost on the way to it, after revision %d.", r.sync())
		// A new leader begins each TTL anew, so a lock may outlive one tick more.
		c.until(c.begin(c.tick() + 1))
		c.more(2, "backup")
	}},
	{name: "compaction", play: func(r *round) {
		c := newCrew(r, "backup")
		ann := c.worker("ann")
		c.start(ann, 0)
		c.more(1, "backup")
		ann.cut()
		changed := r.put(cronJobs+"backup", "run monthly")
		newest := r.put("/weather", "rain")
		r.compact(newest)
		r.tell("While ann was cut off, backup was changed at revision %d, and etcd compacted at revision %d.", changed, newest)
		ann.heal()
		c.more(2, "backup")
	}},
	{name: "deleted", play: func(r *round) {
		c := newCrew(r, "backup", "clean")
		write := c.upToTheRun(c.worker("ann"))
		r.tell("While its run was on the way, backup was deleted at revision %d.", r.delete(cronJobs+"backup"))
		write.pass()
		c.more(3, "clean")
	}},
	{name: "changed", play: func(r *round) {
		c := newCrew(r, "backup")
		write := c.upToTheRun(c.worker("ann"))
		r.tell("While its run was on the way, backup was changed at revision %d.", r.put(cronJobs+"backup", "run monthly"))
		write.pass()
		c.more(2, "backup")
	}},
}}

const (
	cronJobs  = "/cron/jobs/"
	cronLocks = "/cron/lock/"
	cronRuns  = "/cron/run/"

	// lateness is how late a program may be.
	lateness = 3 * time.Second
)

// crew are the workers of a round, and what they have run by now.
type crew struct {
	*round
	ttl         int
	work, every time.Duration

	alive  []*program
	clock  time.Duration    // theirs is so far ahead of the judge's
	first  int64            // the tick in which the first was started
	judged int64            // the last revision that was
	ran    map[string]int   // how often each job ran
	last   map[string]int64 // and its latest tick
	early  int              // how many runs were over well before their tick by the judge's clock
}

// newCrew puts the jobs. A lock outlives its worker by less than two ticks.
func newCrew(r *round, jobs ...string) *crew {
	for i, job := range jobs {
		pairs := []string{cronJobs + job, "run daily"}
		if i == 0 {
			pairs = append(pairs, beside(cronJobs)...)
		}
		r.put(pairs...)
	}
	return &crew{round: r, ttl: 1, work: 100 * time.Millisecond, every: r.granted(2 * time.Second),
		judged: r.history().Last(), ran: map[string]int{}, last: map[string]int64{}}
}

func (c *crew) worker(name string) *program {
	return c.program("-name", name, "-ttl", strconv.Itoa(c.ttl), "-every", c.every.String(), "-work", c.work.String())
}

// start starts a worker, whose clock is ahead of those of the others. The clock is such
// that a tick begins as soon as those are ready that are started at once.
func (c *crew) start(p *program, ahead time.Duration) {
	if c.first == 0 {
		ready := time.Now().Add(c.granted(3 * time.Second / 2))
		c.clock = c.every - time.Duration(ready.UnixNano())%c.every
		c.first = c.tick()
	}
	p.args = append(p.args, "-clock", (c.clock + ahead).String())
	p.start()
	c.alive = append(c.alive, p)
}

// tick is the present one, and begin the time at which one begins.
func (c *crew) tick() int64 { return c.tickAt(time.Now()) }

func (c *crew) tickAt(t time.Time) int64 { return t.Add(c.clock).UnixNano() / int64(c.every) }

func (c *crew) begin(tick int64) time.Time { return time.Unix(0, tick*int64(c.every)).Add(-c.clock) }

// until waits for a time.
func (c *crew) until(t time.Time) {
	c.wait(time.Until(t), func() bool {
		c.judge()
		return false
	})
}

// within waits until something holds that is done for a run of a job. A run has to come
// in one of the next three ticks.
func (c *crew) within(job string, holds func() bool) {
	since := max(c.tick(), c.last[job])
	held := c.wait(time.Until(c.begin(since+3).Add(c.work+c.granted(lateness))), func() bool {
		c.judge()
		return holds()
	})
	if !held || c.last[job] > since+3 {
		c.refuse(0, "In the ticks %d, %d and %d %s did not run. What do all workers that there are wait for?",
			since+1, since+2, since+3, job)
	}
}

// more waits until each of the jobs has run n times more.
func (c *crew) more(n int, jobs ...string) {
	due := map[string]int{}
	for _, job := range jobs {
		due[job] = c.ran[job] + n
	}
	for _, job := range jobs {
		for c.ran[job] < due[job] {
			was := c.ran[job]
			c.within(job, func() bool { return c.ran[job] > was })
		}
	}
}

// upToTheRun starts a worker, and returns the call that would write its run of backup.
func (c *crew) upToTheRun(p *program) *call {
	write := p.strike("a write of a run", writes(cronRuns+"backup/"), func(*call) {})
	c.start(p, 0)
	c.within("backup", func() bool { return write.struck })
	return write.call
}

// takeLock ends the lease of a lock, and returns the revision.
func (c *crew) takeLock(job string) int64 {
	if lock := c.at(c.sync()).Get(cronLocks + job); lock != nil {
		c.revoke(clientv3.LeaseID(lock.Lease))
	}
	return c.sync()
}

// judge judges what was run since it was called last.
func (c *crew) judge() {
	for _, p := range c.alive {
		if p.hasEnded() {
			c.refuse(0, "%s ended by itself, with status %d: %s. Who does its work from now on?",
				p.args[1], p.status, p.lastWords())
		}
	}
	record := c.history()
	last := record.Last()
	if last <= c.judged {
		return
	}
	changes, err := record.Changes(c.judged+1, last)
	c.must(err)
	c.judged = last
	for _, change := range changes {
		if name, ok := strings.CutPrefix(change.Key, cronRuns); ok {
			job, number, _ := strings.Cut(name, "/")
			tick, _ := strconv.ParseInt(number, 10, 64)
			c.judgeRun(change, job, tick)
			c.ran[job]++
			c.last[job] = max(c.last[job], tick)
			if change.Seen.Before(c.begin(tick).Add(-200 * time.Millisecond)) {
				c.early++
			}
		}
	}
}

// judgeRun judges a change of the key that stands for a run.
func (c *crew) judgeRun(change history.Change, job string, tick int64) {
	at, before := change.Revision, c.at(change.Revision-1)
	if was := change.Before; was != nil {
		if change.After == nil {
			c.refuse(at, "The run of %s in tick %d was written at revision %d, and was gone at revision %d. "+
				"What does somebody find who comes to this tick late?", job, tick, was.Mod, at)
		}
		c.refuse(at, "%s ran twice in tick %d: at revision %d (%q), and again at revision %d (%q). "+
			"A lock that is free says that nobody works now: what does it say of the work that is done?",
			job, tick, was.Mod, was.Value, at, change.After.Value)
	}
	said := change.After.Value
	if strings.HasSuffix(said, elsewhere) {
		c.refuse(at, "At revision %d the program put %s, and there is no such job under %s. "+
			"Which keys begin with what the program reads?", at, change.Key, cronJobs)
	}
	lock, token := before.Get(cronLocks+job), "there was none"
	if lock != nil {
		token = fmt.Sprintf("it had token %d", lock.Create)
	}
	if lock == nil || !strings.HasPrefix(said, fmt.Sprintf("token %d:", lock.Create)) {
		c.refuse(at, "At revision %d the run of %s in tick %d was written: %q. But of the lock, %s. "+
			"Nobody notices when he sleeps: who could compare in the very moment of writing?", at, job, tick, said, token)
	}
	is := before.Get(cronJobs + job)
	if is == nil {
		c.refuse(at, "At revision %d %s ran in tick %d, and there was no such job. "+
			"What can happen to a job between the beginning and the end of its work?", at, job, tick)
	}
	if said != fmt.Sprintf("token %d: %s", lock.Create, is.Value) {
		c.refuse(at, "At revision %d the run of %s in tick %d was written: %q. But the job was %q. "+
			"What was read at the beginning of the work may be over at its end.", at, job, tick, said, is.Value)
	}
	// How late a run may be nobody knows who has held it; but its worker was there when
	// the tick began, and the clocks differ by less than a tick.
	if now := c.tickAt(change.Seen); tick < c.first || tick > now+1 {
		c.refuse(at, "At revision %d %s ran in tick %d, and it was tick %d. "+
			"Workers count the same ticks only when they begin to count at the same time.", at, job, tick, now)
	}
}
