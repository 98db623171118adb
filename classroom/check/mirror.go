package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/relay"
)

// Exercise 06 prints the jobs after each revision that changes one, whatever happens to
// its connection and to the history.
var mirror = Exercise{"06-mirror", []scenario{
	{name: "start", play: func(r *round) {
		// The last change of the jobs is newer than all jobs that are left, and the
		// store is newer than that change.
		r.put(jobsToShow+"z", "run daily")
		r.put(jobsToShow+"job1", fmt.Sprintf("run at %d:00", rand.IntN(24)))
		r.delete(jobsToShow + "z")
		r.put(append(beside(jobsToShow), "/cron/lock/job1", "ann")...)
		m := mirrorOf(r, "Which moment does an answer show, and with which revision does the next one begin?")
		between := m.strike("a watch and a read of "+jobsToShow, laterOf(reads(jobsToShow), watches(jobsToShow)),
			func(c *call) {
				what := "read"
				if c.Method == pb.Watch_Watch_FullMethodName {
					what = "watch"
				}
				r.tell("While its %s was on the way, job2 was put at revision %d.",
					what, r.put(jobsToShow+"job2", "run hourly"))
				c.pass()
			})
		m.start()
		r.wait(r.granted(lineLimit/2), func() bool { return between.struck || m.hasEnded() })
		if !between.struck && !m.hasEnded() {
			// Who asks now and then cannot ask between each of these.
			for i := range 3 {
				r.put(jobsToShow+"job2", fmt.Sprint("run ", i))
			}
			r.tell("job2 was put three times, the last time at revision %d.", r.sync())
		}
		// Who missed that learns of it when the next line comes.
		m.showsWithin(r.granted(lineLimit/5), r.sync())
		// Of what is beside them a watch alone may tell, too.
		m.shows(r.put(append(beside(jobsToShow), jobsToShow+"job3", "run weekly")...))
		m.interrupt()
		m.end(mirrorEnd)
		if m.status != 0 && !(m.status == 1 && strings.Contains(m.said.String(), "interrupted")) {
			r.refuse(0, "Ctrl-C ended the program with status %d: %s. "+
				"Is a Ctrl-C a failure?", m.status, m.lastWords())
		}
	}},
	{name: "transaction", play: func(r *round) {
		m := startMirror(r, "One revision is one moment, however many jobs it changes.")
		made := r.commit(clientv3.OpPut(jobsToShow+"job1", "run at 3:00"), clientv3.OpDelete(jobsToShow+"job2"),
			clientv3.OpPut(jobsToShow+"job3", "run at 4:00"), clientv3.OpPut(jobsToShow+"job4", "run daily"))
		r.tell("Revision %d deleted job2 and put job1, job3 and job4.", made)
		m.shows(made)
	}},
	{name: "cut", play: func(r *round) {
		m := startMirror(r, "One answer of a watch may tell of many moments.")
		m.cut()
		r.tell("The program was cut off from etcd.")
		first := r.put(jobsToShow+"job1", "run at 3:00")
		r.put(jobsToShow+"job1", "run at 3:00")
		last := r.delete(jobsToShow + "job2")
		r.tell("job1 was put at revision %d, the same again at revision %d, and job2 was deleted at revision %d. "+
			"Then the program reached etcd again.", first, last-1, last)
		m.heal()
		m.shows(last)
	}},
	{name: "compaction", play: func(r *round) {
		m := startMirror(r, "Of what was compacted no event will ever tell: who knows what is there, and what is not?")
		for i := range 2 {
			added, old, last := fmt.Sprint("job", i+4), fmt.Sprint("job", i+1), fmt.Sprint("job", i+6)
			changes := []clientv3.Op{clientv3.OpDelete(jobsToShow + old), clientv3.OpPut(jobsToShow+added, "run hourly")}
			what := []string{old + " was deleted", added + " was put"}
			if i == 1 {
				// A watch may go on at the last of the two, and tells of that one.
				slices.Reverse(changes)
				slices.Reverse(what)
			}
			m.cut()
			r.tell("The program was cut off from etcd.")
			first, second := r.commit(changes[0]), r.commit(changes[1])
			r.compact(second)
			r.tell("%s at revision %d, %s at revision %d, and the history was compacted there.",
				what[0], first, what[1], second)
			m.hidden[first], m.hidden[second] = true, true
			// Otherwise the present would be just what it was at the compaction.
			present := r.put(jobsToShow+last, "run weekly")
			r.tell("%s was put at revision %d. Then the program reached etcd again.", last, present)
			m.heal()
			m.shows(present)
			m.shows(r.put(jobsToShow+last, "run daily"))
		}
	}},
}}

const (
	jobsToShow = "/cron/jobs/"

	// lineLimit is what a line may take. A client that could not connect waits for
	// a second or two before it tries again.
	lineLimit = 10 * time.Second

	// mirrorEnd is what the end may take after Ctrl-C, on a busy machine.
	mirrorEnd = 4 * time.Second
)

// mirrorRun is a mirror that is judged.
type mirrorRun struct {
	*program
	lesson string         // for who prints a wrong line
	hidden map[int64]bool // the revisions that it need not show
}

func mirrorOf(r *round, lesson string) *mirrorRun {
	m := &mirrorRun{r.program(), lesson, map[int64]bool{}}
	m.out.judged = shownLine
	return m
}

// shownLine matches the lines that are looked at.
var shownLine = regexp.MustCompile(`^\{`)

// startMirror starts a mirror of three jobs, and returns when it follows them.
func startMirror(r *round, lesson string) *mirrorRun {
	made := r.put(jobsToShow+"job1", "run daily", jobsToShow+"job2", "run daily", jobsToShow+"job3", "run daily")
	m := mirrorOf(r, lesson)
	m.start()
	m.shows(made)
	m.shows(r.put(jobsToShow+"job1", "run hourly"))
	return m
}

// laterOf matches whichever of two messages comes after the other.
func laterOf(one, other matcher) matcher {
	var mu sync.Mutex
	var oneCame, otherCame bool
	return func(r *round, m *relay.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case one(r, m):
			oneCame = true
			return otherCame
		case other(r, m):
			otherCame = true
			return oneCame
		}
		return false
	}
}

// shown is a line of a mirror.
type shown struct {
	Revision int64
	Jobs     map[string]string

	text string
	err  error
}

func (m *mirrorRun) shown() (all []shown) {
	for _, text := range m.out.lines() {
		if shownLine.MatchString(text) {
			line := shown{text: text}
			line.err = json.Unmarshal([]byte(text), &line)
			all = append(all, line)
		}
	}
	return all
}

// shows waits until there is a line for all that happened up to a revision, and judges
// every line that there is.
func (m *mirrorRun) shows(revision int64) {
	r := m.round
	m.showsWithin(r.granted(lineLimit), revision)
	changes, last := r.all(jobsToShow), int64(0)
	for _, line := range m.shown() {
		if line.err != nil {
			r.refuse(0, "The program printed %s, which is no JSON object with a revision and jobs. "+
				"Who is to read that?", line.text)
		}
		if last >= line.Revision {
			r.refuse(line.Revision, "After the line of revision %d came one of revision %d. "+
				"What was shown already, and where does a watch go on?", last, line.Revision)
		}
		m.misses(changes, last, line.Revision-1)
		for _, job := range slices.Sorted(maps.Keys(line.Jobs)) {
			if line.Jobs[job] == elsewhere {
				r.refuse(line.Revision, "The line of revision %d has %q, and there is no such job under %s. "+
					"Which keys begin with what the program reads?", line.Revision, job, jobsToShow)
			}
		}
		if wrong := line.wrong(r, changes); wrong != "" {
			lesson := m.lesson
			if len(m.hidden) > 0 && !m.hidden[line.Revision] {
				lesson = "Does that line show what is there then, or what the program has heard of?"
			}
			r.refuse(line.Revision, "The line of revision %d is wrong: %s. %s", line.Revision, wrong, lesson)
		}
		last = line.Revision
	}
	switch {
	case m.hasEnded():
		r.refuse(0, "The program ended with status %d: %s. "+
			"The jobs will change again: who shows them then?", m.status, m.lastWords())
	case last == 0:
		r.refuse(0, "The program printed no line of the jobs that there were. "+
			"What could it show before anything changes?")
	}
	m.misses(changes, last, revision)
}

// showsWithin waits for the line of a revision, or of a later one.
func (m *mirrorRun) showsWithin(limit time.Duration, revision int64) {
	m.round.wait(limit, func() bool {
		all := m.shown()
		return m.hasEnded() || len(all) > 0 && all[len(all)-1].Revision >= revision
	})
}

// misses refuses a mirror that left out a change between a revision that it has shown,
// or 0 for none, and another.
func (m *mirrorRun) misses(changes []history.Change, shown, to int64) {
	for _, c := range changes {
		if shown > 0 && shown < c.Revision && c.Revision <= to && !m.hidden[c.Revision] {
			m.round.refuse(c.Revision, "There is no line of revision %d, which changed %s. %s",
				c.Revision, strings.TrimPrefix(c.Key, jobsToShow), m.lesson)
		}
	}
}

// wrong says what is wrong with the jobs of a line, or nothing. changes are those of the
// jobs by now.
func (s shown) wrong(r *round, changes []history.Change) string {
	if now := r.history().Last(); s.Revision < 1 || s.Revision > now {
		return fmt.Sprintf("etcd is at revision %d", now)
	}
	were, changed := map[string]string{}, map[string]int64{}
	for kv := range r.at(s.Revision).Range(jobsToShow) {
		were[strings.TrimPrefix(kv.Key, jobsToShow)] = kv.Value
	}
	for _, c := range changes {
		if c.Revision <= s.Revision {
			changed[strings.TrimPrefix(c.Key, jobsToShow)] = c.Revision
		}
	}
	for _, job := range slices.Sorted(maps.Keys(were)) {
		if is, ok := s.Jobs[job]; !ok {
			return fmt.Sprintf("%s, which was put at revision %d, is not in it", job, changed[job])
		} else if is != were[job] {
			return fmt.Sprintf("it has %q for %s, which was put as %q at revision %d", is, job, were[job], changed[job])
		}
	}
	for _, job := range slices.Sorted(maps.Keys(s.Jobs)) {
		if _, ok := were[job]; !ok && changed[job] > 0 {
			return fmt.Sprintf("it has %s, which was deleted at revision %d", job, changed[job])
		} else if !ok {
			return fmt.Sprintf("it has %s, which was not there", job)
		}
	}
	return ""
}
