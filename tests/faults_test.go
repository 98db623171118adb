//go:build unix

package tests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
)

// What may come out when a fault strikes a lesson: it carries on (""), or it
// ends with status 1 and one message that the pattern matches. Behind a ? the
// pattern is what may come out instead of carrying on: which of the two it is
// depends on where the call was when the fault struck.
const (
	on   = ""
	away = `deadline exceeded|timed out|code = Unavailable|leader changed`
	lost = away + `|renewals ended too early|the lease is lost`
	full = `space exceeded`
	gone = `revision has been compacted`
)

// atStart are faults that a lesson meets when it begins. The outcome is the same
// for all lessons, but for 01-connect, which makes its client by itself.
var atStart = []struct {
	name, outcome, connect string
	meet                   func(t *testing.T) (endpoint string, env []string)
}{
	{"no server", "nothing listens there", "nothing listens there", meetNothing},
	{"wrong protocol", "a web server answers", "a web server answers", meetWebServer},
	{"silent port", "no answer in time", "no answer in time", meetSilence},
	{"auth required", "it wants a user", "user name is empty", meetLocked},
	{"wrong password", "wrong user or password", "authentication failed", meetWrongPassword},
	{"TLS against plain", "it speaks no TLS", "it speaks no TLS", meetPlain},
	{"plain against TLS", "without TLS", "without TLS", meetTLS},
}

// midway are faults that strike when all lessons are in the middle of what they
// do. 05-lease is there twice: when nobody renews its lease any more, and while
// it is kept alive.
var midway = []struct {
	name    string
	members int
	strike  func(*scene)

	connect, put, get, delete, lease, renewed, watch, op, lock string
}{
	{"server killed", 1, killForGood,
		away, away, away, away, away, lost, away, away, lost},
	{"server killed, back after 2 s", 1, killAndRestart,
		"?" + away, "?" + away, "?" + away, "?" + away, "?" + lost, "?" + lost, "?" + away, "?" + away, "?" + lost},
	{"leader killed", 3, killLeaderOfThree,
		"?" + away, "?" + away, "?" + away, "?" + away, "?" + lost, "?" + lost, "?" + away, "?" + away, "?" + lost},
	{"leader paused for 5 s", 3, pauseLeader,
		"?" + away, "?" + away, "?" + away, "?" + away, "?" + lost, "?" + lost, "?" + away, "?" + away, "?" + lost},
	{"no quorum", 3, killMajority,
		away, away, away, away, away, lost, away, away, lost},
	{"history compacted", 1, compact,
		on, gone, gone, on, on, on, on, on, on},
	{"lease revoked", 1, revokeAll,
		on, on, on, on, on, "renewals ended too early", on, on, "the lease is lost"},
	{"database full", 1, fill,
		on, full, on, on, full, full, full, full, full},
	{"lesson paused", 1, pauseLessons,
		on, on, on, on, on, "?renewals ended too early", on, on, "is stale|the lease is lost"},
}

// cells are the columns of midway: what is run, what it has printed when it is in
// its middle, and what when it is past that. The lessons that hold a lease cannot
// be kept waiting for the others: only the rest is held.
var cells = []struct {
	name, lesson, sign, past string
	held                     bool
	args                     []string
}{
	{"01-connect", "01-connect", "after New", "member", true, nil},
	{"02-put", "02-put", "The first put", "The same", true, nil},
	{"03-get", "03-get", "One key", "The past", true, nil},
	{"04-delete", "04-delete", "One key", "A prefix", true, nil},
	{"05-lease", "05-lease", "renewals", "revoked", false, []string{"-ttl", "4"}},
	{"05-lease, renewed", "05-lease", "granted", "renewals", false, []string{"-ttl", "4"}},
	{"06-watch", "06-watch", "PUT", "world", false, []string{"-for", "12s"}},
	{"07-op", "07-op", "One by one", "In one", true, nil},
	{"08-txn-lock", "08-txn-lock", "has the lock", "done by", false, []string{"-ttl", "4", "-work", "8s"}},
}

// slowest is the cell that takes longest to come to its middle.
const slowest = 4

const (
	// endLimit is how long a lesson may go on after a fault. 05-lease has the
	// most time: 10 s and four times its TTL, and 2 s for its last call.
	endLimit = 32 * time.Second

	// leaseLimit is how long a lease may be left that could not be revoked: a
	// change of leader starts its TTL again.
	leaseLimit = 15 * time.Second

	// pace makes a call last long enough to be struck in its middle.
	pace = 60 * time.Millisecond
)

// TestFaults runs every lesson against every fault.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range atStart {
		t.Run(fault.name, func(t *testing.T) {
			parallel(t)
			endpoint, env := fault.meet(t)
			started := map[string]*running{}
			for _, lesson := range lessons {
				started[lesson] = start(t, endpoint, env, lesson)
			}
			for _, lesson := range lessons {
				t.Run(lesson, func(t *testing.T) {
					outcome := fault.outcome
					if lesson == "01-connect" {
						outcome = fault.connect
					}
					limit := 5 * time.Second
					if slices.Contains(env, patient) {
						limit = 15 * time.Second
					}
					judge(t, started[lesson].wait(t), outcome, limit)
				})
			}
		})
	}
	rounds := 1
	if *long {
		rounds = 3
	}
	for _, fault := range midway {
		for range rounds {
			t.Run(fault.name, func(t *testing.T) {
				leave := parallel(t)
				outcomes := []string{fault.connect, fault.put, fault.get, fault.delete,
					fault.lease, fault.renewed, fault.watch, fault.op, fault.lock}
				strikeMidway(t, fault.members, fault.strike, leave, outcomes)
			})
		}
	}
	t.Run("Ctrl-C", func(t *testing.T) {
		parallel(t)
		interruptLessons(t)
	})
}

// scene is what a fault can strike.
type scene struct {
	*testing.T
	random  *rand.Rand
	etcd    *cluster.Cluster
	client  *clientv3.Client // reaches the members directly
	lessons []*running       // in the order of cells
	relays  []*relay
	slowly  bool // the networks stay slow after the strike
	broken  bool // a member was killed or paused: what it held goes after its TTL

	// over is closed when all lessons have ended.
	over chan struct{}

	// after is what is left to do when they have.
	after []func()
}

// strikeMidway brings all lessons into their middle, each on a network of its
// own, and holds these networks still until the fault has struck. From there on
// some lessons wait for half a minute, and the test leaves its slot.
func strikeMidway(t *testing.T, members int, strike func(*scene), leave func(), outcomes []string) {
	etcd := startEtcd(t, cluster.Config{Members: members, Args: []string{
		fmt.Sprint("--quota-backend-bytes=", quota)}})
	client := connect(t, etcd.Endpoints()...)
	putNeighbours(t, client)
	before := others(t, client)

	s := &scene{T: t, random: random(t), etcd: etcd, client: client, over: make(chan struct{})}
	// On a busy machine one lesson may be through before another is ready.
	for attempt := 1; !s.set(); attempt++ {
		if attempt == 5 {
			t.Fatal("the lessons do not get into their middle together")
		}
		s.release()
		for _, p := range s.lessons {
			p.waitUntil(t, time.Now().Add(endLimit))
		}
	}
	strike(s)
	s.release()
	leave()
	struck := time.Now()

	var results []result
	for _, p := range s.lessons {
		results = append(results, p.waitUntil(t, struck.Add(endLimit)))
	}
	close(s.over)
	for _, after := range s.after {
		after()
	}
	for i, got := range results {
		t.Run(cells[i].name, func(t *testing.T) {
			judge(t, got, outcomes[i], time.Minute)
		})
	}
	if s.broken {
		noLeasesSoon(t, client)
	} else {
		noLeases(t, client)
	}
	if after := others(t, client); after != before {
		t.Errorf("keys of others before:\n%s\nand after:\n%s", before, after)
	}
}

// set starts the lessons, and reports whether all are in their middle, with
// their networks held.
func (s *scene) set() bool {
	s.lessons, s.relays = make([]*running, len(cells)), nil
	s.begin(slowest)
	if s.lessons[slowest].printed(cells[slowest].sign, 20*time.Second) != nil {
		return false
	}
	ready := time.Now()
	var waiting sync.WaitGroup
	for i, cell := range cells {
		if i == slowest {
			continue
		}
		network := s.begin(i)
		later := time.Duration(s.random.IntN(2 * int(pace)))
		waiting.Go(func() {
			s.lessons[i].printed(cell.sign, 20*time.Second)
			if cell.held {
				time.Sleep(later) // The fault finds requests, or answers, on their way.
				hold(network)
			}
		})
	}
	waiting.Wait()
	hold(s.relays)
	for i, p := range s.lessons {
		printed := p.stdout.String()
		if p.hasEnded() || !strings.Contains(printed, cells[i].sign) ||
			strings.Contains(printed, cells[i].past) {
			return false
		}
	}
	// Its renewals must last long enough to notice.
	return time.Since(ready) < 3*time.Second
}

// begin starts a lesson on a slow network of its own.
func (s *scene) begin(i int) []*relay {
	var endpoints []string
	var network []*relay
	for _, m := range s.etcd.Members {
		r := newRelay(s, m.Endpoint)
		r.slow(pace)
		network = append(network, r)
		endpoints = append(endpoints, r.Address)
	}
	s.random.Shuffle(len(endpoints), func(i, j int) {
		endpoints[i], endpoints[j] = endpoints[j], endpoints[i]
	})
	s.relays = append(s.relays, network...)
	s.lessons[i] = start(s, strings.Join(endpoints, ","), []string{patient},
		cells[i].lesson, cells[i].args...)
	return network
}

// release lets the lessons go on. A fault that lasts calls it by itself.
func (s *scene) release() {
	for _, r := range s.relays {
		if !s.slowly {
			r.slow(0)
		}
		r.resume()
	}
}

func hold(network []*relay) {
	for _, r := range network {
		r.hold()
	}
}

// judge fails the test when a lesson did not end as outcome says.
func judge(t *testing.T, got result, outcome string, limit time.Duration) {
	t.Helper()
	all := fmt.Sprintf("status %d after %v, outcome %q\n%s%s",
		got.status, got.took, outcome, got.stdout, got.stderr)
	t.Logf("status %d after %v: %s", got.status, got.took, got.stderr)
	if got.took > limit {
		t.Errorf("it took more than %v: %s", limit, all)
	}
	for _, sign := range []string{"panic:", "goroutine ", `{"`} {
		if strings.Contains(got.stdout+got.stderr, sign) {
			t.Errorf("a stack trace or a log line: %s", all)
		}
	}
	pattern, either := strings.CutPrefix(outcome, "?")
	if got.status == 0 && (either || pattern == on) {
		if got.stderr != "" {
			t.Errorf("it carries on, and complains: %s", all)
		}
		return
	}
	if got.status != 1 || pattern == on || !regexp.MustCompile(pattern).MatchString(got.stderr) {
		t.Errorf("this must not come out: %s", all)
	}
	// One message: a line, or the cause and the next step in two lines more.
	if lines := strings.Count(got.stderr, "\n"); lines != 1 && lines != 3 {
		t.Errorf("%d lines: %s", lines, all)
	}
}

func meetNothing(*testing.T) (string, []string) { return dead, nil }

func meetWebServer(t *testing.T) (string, []string) {
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	return web.Listener.Addr().String(), nil
}

func meetSilence(t *testing.T) (string, []string) { return silentListener(t), nil }

func meetLocked(t *testing.T) (string, []string) { return lockedEtcd(t), []string{patient} }

func meetWrongPassword(t *testing.T) (string, []string) {
	return lockedEtcd(t), []string{patient, "ETCDCTL_USER=root:wrong"}
}

func meetPlain(t *testing.T) (string, []string) {
	return "https://" + startEtcd(t, cluster.Config{}).Endpoints()[0], []string{patient}
}

func meetTLS(t *testing.T) (string, []string) {
	secure, _ := tlsFront(t, startEtcd(t, cluster.Config{}).Endpoints()[0])
	return secure, []string{patient}
}

func killForGood(s *scene) {
	s.kill(s.etcd.Members[0])
	s.after = append(s.after, func() { s.start(s.etcd.Members[0]) })
}

func killAndRestart(s *scene) {
	s.kill(s.etcd.Members[0])
	s.release()
	time.Sleep(2 * time.Second)
	s.start(s.etcd.Members[0])
}

func killLeaderOfThree(s *scene) {
	leader := leader(s, s.etcd)
	s.kill(leader)
	s.after = append(s.after, func() { s.start(leader) })
}

func pauseLeader(s *scene) {
	leader := leader(s, s.etcd)
	s.broken = true
	if err := leader.Pause(); err != nil {
		s.Fatal(err)
	}
	s.release()
	time.Sleep(5 * time.Second)
	if err := leader.Resume(); err != nil {
		s.Fatal(err)
	}
}

func killMajority(s *scene) {
	for _, m := range s.etcd.Members[:2] {
		s.kill(m)
		s.after = append(s.after, func() { s.start(m) })
	}
}

// compact takes away the past, again and again until the lessons have ended:
// every revision but the newest is soon gone.
func compact(s *scene) {
	s.slowly = true // So that there is a compaction between any two calls.
	var compacting sync.WaitGroup
	compacting.Go(func() {
		for {
			put, err := s.client.Put(s.Context(), "/elsewhere", "")
			if err == nil {
				_, err = s.client.Compact(s.Context(), put.Header.Revision)
			}
			if err != nil {
				s.Error(err)
				return
			}
			select {
			case <-s.over:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	s.after = append(s.after, compacting.Wait)
}

func revokeAll(s *scene) {
	leases, err := s.client.Leases(soon(s))
	if err != nil {
		s.Fatal(err)
	}
	if len(leases.Leases) != 3 {
		s.Errorf("there are %d leases, want those of three lessons", len(leases.Leases))
	}
	for _, lease := range leases.Leases {
		if _, err := s.client.Revoke(soon(s), lease.ID); err != nil {
			s.Fatal(err)
		}
	}
}

// quota is the size of a database, in bytes, that is soon filled.
const quota = 4 << 20

func fill(s *scene) {
	value := strings.Repeat("x", 1<<20)
	var err error
	for i := 0; err == nil; i++ {
		if i > 10*quota>>20 {
			s.Fatal("the database does not get full")
		}
		_, err = s.client.Put(soon(s), "/elsewhere", value)
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		s.Fatal(err)
	}
}

// pauseLessons pauses the lessons until etcd has given up all their leases.
func pauseLessons(s *scene) {
	for _, p := range s.lessons {
		if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
			s.Fatal(err)
		}
	}
	s.release()
	noLeasesSoon(s, s.client)
	for _, p := range s.lessons {
		if err := p.Process.Signal(syscall.SIGCONT); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *scene) kill(m *cluster.Member) {
	s.broken = true
	if err := m.Kill(); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) start(m *cluster.Member) {
	if err := m.Start(soon(s)); err != nil {
		s.Fatal(err)
	}
}

// noLeasesSoon fails the test when leases are left for longer than they can be.
func noLeasesSoon(t testing.TB, client *clientv3.Client) {
	t.Helper()
	eventually(t, leaseLimit, "no lease is left", func() bool {
		leases, err := client.Leases(soon(t))
		return err == nil && len(leases.Leases) == 0
	})
}

// interruptLessons presses Ctrl-C at random moments.
func interruptLessons(t *testing.T) {
	random := random(t)
	etcd := startEtcd(t, cluster.Config{})
	client := connect(t, etcd.Endpoints()...)
	putNeighbours(t, client)
	before := others(t, client)
	presses := 2
	if *long {
		presses = 20
	}
	for range presses {
		var lessons []*running
		var ending sync.WaitGroup
		for _, cell := range cells {
			r := newRelay(t, etcd.Endpoints()[0])
			r.slow(pace / 2)
			p := start(t, r.Address, []string{patient}, cell.lesson, cell.args...)
			lessons = append(lessons, p)
			moment := time.Duration(random.IntN(int(2 * time.Second)))
			ending.Go(func() {
				select {
				case <-time.After(moment):
					p.Process.Signal(syscall.SIGINT)
				case <-p.ended:
				}
			})
		}
		ending.Wait()
		interrupted := time.Now()
		for i, p := range lessons {
			t.Run(cells[i].name, func(t *testing.T) {
				got := p.waitUntil(t, interrupted.Add(5*time.Second))
				if got.status == -1 && got.stdout+got.stderr == "" {
					return // Its first line had not run yet.
				}
				judge(t, got, "?interrupted: ", time.Minute)
			})
		}
		noLeases(t, client)
	}
	if after := others(t, client); after != before {
		t.Errorf("keys of others before:\n%s\nand after:\n%s", before, after)
	}
}
