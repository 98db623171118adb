//go:build unix

package tests

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// What may come out when a fault strikes a lesson: it carries on (""), or it
// ends with status 1 and one message that the pattern matches. Behind a ? the
// pattern is what may come out instead of carrying on: which of the two it is
// depends on where the call was when the fault struck. A member that was removed says
// that raft has stopped.
const (
	on   = ""
	away = `deadline exceeded|timed out|code = Unavailable|leader changed|raft: stopped`
	lost = away + `|renewals ended too early|the lease is lost`
	full = `space exceeded`
	gone = `revision has been compacted`
)

// outcomes are what may come out for each of cells.
type outcomes [9]string

var (
	fails  = outcomes{away, away, away, away, away, lost, away, away, lost}
	either = outcomes{"?" + away, "?" + away, "?" + away, "?" + away, "?" + lost, "?" + lost, "?" + away, "?" + away, "?" + lost}
)

// midway are faults that strike when all lessons are in the middle of what they
// do. 05-lease is there twice: when nobody renews its lease any more, and while
// it is kept alive.
var midway = []struct {
	fault
	members int
	lasts   time.Duration // 0 is for until the lessons have ended
	least   int           // so many of those with a ? carry on
	outcomes
}{
	{killedMember, 1, 0, 0, fails},
	{killedMember, 1, 2 * time.Second, 4, either},
	{fullDisk, 1, 0, 0, fails},
	{killedLeader, 3, 0, 3, either},
	{pausedLeader, 3, 5 * time.Second, 3, either},
	{cutLeader, 3, 0, 0, either},
	{cutLeader, 3, 3 * time.Second, 2, either},
	{lostMajority, 3, 0, 0, fails},
	{killedAll, 3, time.Second, 2, either},
	{replacedOne, 3, time.Second, 4, either},
	{slowNetwork, 3, 0, 0, outcomes{}},
	{compaction, 1, 0, 0,
		outcomes{on, gone, gone, on, on, on, on, on, on}},
	{revokedLeases, 1, 0, 0,
		outcomes{on, on, on, on, on, "renewals ended too early", on, on, "the lease is lost"}},
	{fullDatabase, 1, 0, 0,
		outcomes{on, full, on, on, full, full, full, full, full}},
	{pausedPrograms, 1, time.Second, 0,
		outcomes{on, on, on, on, on, "?renewals ended too early", on, on, "is stale|the lease is lost"}},
}

// cells are the columns of midway: what is run, what it has printed when it is in
// its middle, and what when it is past that. The lessons that renew a lease cannot
// be kept waiting for the others: only the rest is held.
var cells = []struct {
	name, lesson, sign, past string
	held                     bool
}{
	{"01-connect", "01-connect", "after New", "member", true},
	{"02-put", "02-put", "The first put", "The same", true},
	{"03-get", "03-get", "One key", "The past", true},
	{"04-delete", "04-delete", "One key", "A prefix", true},
	{"05-lease", "05-lease", "renewals", "revoked", false},
	{"05-lease, renewed", "05-lease", "granted", "renewals", false},
	{"06-watch", "06-watch", "PUT", "world", true},
	{"07-op", "07-op", "One by one", "In one", true},
	{"08-txn-lock", "08-txn-lock", "has the lock", "done by", false},
}

// slowest is the cell that takes longest to come to its middle: one second more
// than the TTL of its lease.
const slowest = 4

// flags are those with which a lesson runs whose leases have that TTL, in seconds.
func flags(lesson string, ttl int) []string {
	switch lesson {
	case "05-lease":
		return []string{"-ttl", strconv.Itoa(ttl)}
	case "06-watch":
		return []string{"-for", fmt.Sprint(ttl+5, "s")}
	case "08-txn-lock":
		return []string{"-ttl", strconv.Itoa(ttl), "-work", fmt.Sprint(2*ttl, "s")}
	}
	return nil
}

const (
	// ttls are those of the leases, in seconds, at the first attempt to bring the
	// lessons into their middle, and at the last.
	firstTTL, lastTTL = 10, 60

	// pace makes a call last long enough to be struck in its middle.
	pace = 60 * time.Millisecond

	// heldLimit is for how long lessons are held: they give all their calls 10 s.
	heldLimit = 6 * time.Second
)

// TestFaults runs every lesson against every fault.
func TestFaults(t *testing.T) {
	t.Parallel()
	t.Run("no server", func(t *testing.T) {
		t.Parallel()
		// What else may be there instead of a server, TestConnect tries with one of them.
		for _, lesson := range harness.Lessons {
			comesOut(t, inTime(t, harness.Nobody, []string{harness.Patient}, lesson), "nothing listens there")
		}
	})
	rounds := 1
	if etcdtest.Nightly() {
		rounds = 3
	}
	for _, row := range midway {
		name := row.name
		if row.lasts > 0 {
			name += fmt.Sprint(" for ", row.lasts)
		}
		for range rounds {
			t.Run(name, func(t *testing.T) {
				etcdtest.NeedsLong(t, "all lessons, for up to a minute")
				if row.available != nil {
					if err := row.available(); err != nil {
						etcdtest.SkipUnlessCI(t, err)
					}
				}
				t.Parallel()
				config := cluster.Config{Members: row.members,
					Args: []string{fmt.Sprint("--quota-backend-bytes=", quota)}}
				if row.name == fullDisk.name {
					config = cluster.Config{Dir: mountDisk(t, fmt.Sprint("size=", smallDisk))}
				}
				s := stage(t, config)
				carriedOn := s.strikeMidway(row.fault, row.lasts, row.outcomes)
				t.Logf("%s: %d lessons that need not have carry on", name, carriedOn)
				if carriedOn < row.least {
					t.Errorf("want %d or more", row.least)
				}
			})
		}
	}
	t.Run("Ctrl-C", func(t *testing.T) {
		etcdtest.NeedsLong(t, "all lessons, again and again")
		t.Parallel()
		interruptLessons(t)
	})
}

// scene is an etcd, and all lessons.
type scene struct {
	site
	lessons   []*harness.Running // in the order of cells
	ttl       int                // of the lessons' leases, in seconds
	untouched func()             // are the keys of others?
}

// stage starts an etcd, and the lessons, and returns when all of these are in their
// middle, with their networks held.
func stage(t *testing.T, config cluster.Config) *scene {
	etcd := etcdtest.Etcd(t, config)
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	s := &scene{untouched: harness.PutNeighbours(t, client),
		site: site{T: t, random: harness.Random(t), etcd: etcd, client: client}}
	for s.ttl = firstTTL; ; s.ttl += 5 {
		missed := s.set()
		if missed == nil {
			return s
		}
		t.Logf("with leases of %d s: %v", s.ttl, missed)
		if s.ttl == lastTTL {
			t.Fatal("the lessons do not get into their middle together")
		}
		s.clear()
	}
}

// strikeMidway lets a fault strike, and checks how the lessons end. It returns how many
// have carried on that need not have.
func (s *scene) strikeMidway(fault fault, lasts time.Duration, outcomes outcomes) (carriedOn int) {
	for _, p := range s.lessons {
		s.programs = append(s.programs, p.Process)
	}
	mend := fault.strike(&s.site)
	resume(s.network)
	struck := time.Now()
	if lasts > 0 {
		time.Sleep(lasts)
		mend()
	}

	// 05-lease has the most time: 10 s and four times its TTL, and 2 s for its
	// last call.
	limit := time.Duration(60+4*s.ttl) * time.Second
	var results []harness.Result
	for _, p := range s.lessons {
		results = append(results, p.WaitUntil(s, struck.Add(limit)))
	}
	if lasts == 0 {
		mend()
	}
	for i, got := range results {
		s.Run(cells[i].name, func(t *testing.T) { comesOut(t, got, outcomes[i]) })
		if got.Status == 0 && strings.HasPrefix(outcomes[i], "?") {
			carriedOn++
		}
	}
	if s.broken {
		noLeasesSoon(s, s.client)
	} else {
		harness.NoLeases(s.T, s.client)
	}
	s.untouched()
	return carriedOn
}

// set starts the lessons, and returns nil when all are in their middle, with their
// networks held. Otherwise it says which came too late for the others.
//
// What takes a slow machine long is to start programs, so that is over when the
// slowest gets into its middle: until then the others wait for an answer to their
// first call. Nothing but the time that bytes need is left then.
func (s *scene) set() error {
	s.lessons, s.network = make([]*harness.Running, len(cells)), nil
	s.begin(slowest, s.slowNetwork())
	if err := s.lessons[slowest].Printed("granted", etcdtest.Limit); err != nil {
		return err
	}
	// gRPC gives up a connection on which nothing comes for 20 s.
	time.Sleep(time.Duration(s.ttl-firstTTL) * time.Second)
	networks := make([][]*harness.Relay, len(cells))
	for i := range cells {
		if i != slowest {
			networks[i] = s.slowNetwork()
			hold(networks[i])
			s.begin(i, networks[i])
		}
	}
	if err := s.lessons[slowest].Printed(cells[slowest].sign, 2*firstTTL*time.Second); err != nil {
		return err
	}
	ready := time.Now()
	late := make([]error, len(cells))
	var waiting sync.WaitGroup
	for i, cell := range cells {
		if i == slowest {
			continue
		}
		later := time.Duration(s.random.IntN(2 * int(pace)))
		waiting.Go(func() {
			resume(networks[i])
			late[i] = s.lessons[i].Printed(cell.sign, heldLimit)
			if cell.held {
				time.Sleep(later) // The fault finds requests, or answers, on their way.
				hold(networks[i])
			}
		})
	}
	waiting.Wait()
	hold(s.network)
	for i, p := range s.lessons {
		if p.HasEnded() || strings.Contains(p.Stdout.String(), cells[i].past) {
			late[i] = fmt.Errorf("%s is past its middle:\n%s%s", cells[i].name, p.Stdout, p.Stderr)
		}
	}
	// The leases must last long enough for the lessons to notice what happens.
	took, limit := time.Since(ready), min(time.Duration(s.ttl)*time.Second/2, heldLimit)
	s.Logf("the lessons got into their middle within %v, with leases of %d s", took, s.ttl)
	if took > limit {
		late = append(late, fmt.Errorf("they took more than %v", limit))
	}
	return errors.Join(late...)
}

// clear ends the lessons, for another attempt.
func (s *scene) clear() {
	resume(s.network)
	for _, p := range s.lessons {
		if p != nil {
			p.Process.Signal(os.Interrupt)
		}
	}
	for _, p := range s.lessons {
		if p != nil {
			p.Wait(s)
		}
	}
	noLeasesSoon(s, s.client)
}

// slowNetwork returns a network to all members, for one lesson.
func (s *scene) slowNetwork() (network []*harness.Relay) {
	network = s.newNetwork()
	for _, r := range network {
		r.Slow(pace)
	}
	return network
}

// begin starts a lesson on a network.
func (s *scene) begin(i int, network []*harness.Relay) {
	s.lessons[i] = harness.Start(s, endpointsOf(network), []string{"ETCDCTL_DIAL_TIMEOUT=1m"},
		cells[i].lesson, flags(cells[i].lesson, s.ttl)...)
}

func hold(network []*harness.Relay) {
	for _, r := range network {
		r.Hold()
	}
}

func resume(network []*harness.Relay) {
	for _, r := range network {
		r.Resume()
	}
}

// comesOut fails the test when a lesson did not end as outcome says.
func comesOut(t *testing.T, got harness.Result, outcome string) {
	t.Helper()
	all := fmt.Sprintf("status %d after %v, outcome %q\n%s%s",
		got.Status, got.Took, outcome, got.Stdout, got.Stderr)
	t.Logf("status %d after %v: %s", got.Status, got.Took, got.Stderr)
	for _, sign := range []string{"panic:", "goroutine ", `{"`} {
		if strings.Contains(got.Stdout+got.Stderr, sign) {
			t.Errorf("a stack trace or a log line: %s", all)
		}
	}
	pattern, either := strings.CutPrefix(outcome, "?")
	if got.Status == 0 && (either || pattern == on) {
		if got.Stderr != "" {
			t.Errorf("it carries on, and complains: %s", all)
		}
		return
	}
	if got.Status != 1 || pattern == on || !regexp.MustCompile(pattern).MatchString(got.Stderr) {
		t.Errorf("this must not come out: %s", all)
	}
	// One message: a line, or the cause and the next step in two lines more.
	if lines := strings.Count(got.Stderr, "\n"); lines != 1 && lines != 3 {
		t.Errorf("%d lines: %s", lines, all)
	}
}

// noLeasesSoon fails the test when leases are left that do not end: a change of leader
// starts their TTL again, and nobody renews them.
func noLeasesSoon(t testing.TB, client *clientv3.Client) {
	t.Helper()
	etcdtest.Eventually(t, "no lease is left", func() bool {
		leases, err := client.Leases(etcdtest.Soon(t))
		return err == nil && len(leases.Leases) == 0
	})
}

// interruptLessons presses Ctrl-C in the middle of the lessons: when a lesson begins
// to connect, and when it says that it is in its middle.
func interruptLessons(t *testing.T) {
	random := harness.Random(t)
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	untouched := harness.PutNeighbours(t, client)
	presses := 2
	if etcdtest.Nightly() {
		presses = 20
	}
	interrupted := 0
	for press := range presses {
		var lessons []*harness.Running
		var ending sync.WaitGroup
		for _, cell := range cells {
			r := harness.NewRelay(t, etcd.Endpoints()[0])
			r.Slow(pace)
			p := harness.Start(t, r.Address, []string{harness.Patient}, cell.lesson, flags(cell.lesson, 4)...)
			lessons = append(lessons, p)
			moment := time.Duration(random.IntN(int(2 * pace)))
			ending.Go(func() {
				if press%2 == 0 {
					select {
					case <-r.Used:
					case <-p.Ended:
					}
				} else {
					p.Printed(cell.sign, etcdtest.Limit)
				}
				time.Sleep(moment)
				p.Process.Signal(os.Interrupt)
			})
		}
		ending.Wait()
		for i, p := range lessons {
			t.Run(cells[i].name, func(t *testing.T) {
				got := p.Wait(t)
				if strings.Contains(got.Stderr, "interrupted: ") {
					interrupted++
				}
				comesOut(t, got, "?interrupted: ")
			})
		}
		harness.NoLeases(t, client)
	}
	// On a slow machine some end before the signal comes.
	all := presses * len(cells)
	t.Logf("%d of %d lessons were interrupted", interrupted, all)
	if interrupted == 0 {
		t.Error("want some")
	}
	untouched()
}
