//go:build unix

package tests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/judge"
	"example.com/etcd-by-example/tests/internal/harness"
)

const resultKey = "/cron/jobs/job9"

// TestLockProof has many contend for the lock of lesson 08, in processes and
// goroutines that run the lesson itself, while holders are paused or cut off for
// longer than their TTL, leases are revoked and leaders killed. It checks that no
// two hold the lock at a time, that it never stays without a lease, and that no write
// comes in with a token other than the holder's.
func TestLockProof(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	writes, each, limit := int64(150), int64(4), 4*time.Minute
	if etcdtest.Nightly() {
		writes, each, limit = 10_000, 25, 45*time.Minute
	}
	a := contend(t, rules{flag: "-guard=true", work: time.Millisecond, alone: 2, each: each, limit: limit,
		enough: func(a *arena) bool {
			return a.writes() >= writes && !slices.ContainsFunc(a.faults, func(f *strike) bool { return f.count == 0 })
		}})
	found := slices.Concat(a.holders(), a.results())
	for _, breach := range found[:min(10, len(found))] {
		t.Error(breach)
	}
	if result := checkTurns(a.turns); result != porcupine.Ok {
		t.Errorf("the calls of the contenders are not linearizable: %v", result)
	}
}

// TestLockWithoutGuard shows that the checks of TestLockProof see what they are
// for: without the guard, they have to find writes that come too late.
func TestLockWithoutGuard(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	// With longer work, a fault nearly always finds a holder in the middle of it.
	a := contend(t, rules{flag: "-guard=false", work: 20 * time.Millisecond, each: 2, limit: 4 * time.Minute,
		enough: func(a *arena) bool { return len(falls(a.results())) >= 3 }})
	if found := a.holders(); len(found) > 0 {
		t.Errorf("the guard has nothing to do with this: %q", found)
	}
	if result := checkTurns(a.turns); result != porcupine.Illegal {
		t.Errorf("the calls of the contenders are %v, want Illegal", result)
	}
}

// holders returns where the lock had two holders or no lease.
func (a *arena) holders() []judge.Breach {
	a.Helper()
	lock := judge.Key(lockKey)
	two, err := judge.OneHolder(a.record, 1, a.record.Last(), lock)
	etcdtest.NoError(a, err)
	unleased, err := judge.AlwaysLeased(a.record, 1, a.record.Last(), lock)
	etcdtest.NoError(a, err)
	return slices.Concat(two, unleased)
}

// results returns which results were written with a token other than the holder's.
func (a *arena) results() []judge.Breach {
	a.Helper()
	found, err := judge.Fenced(a.record, 1, a.record.Last(), judge.Key(resultKey), tokenOf(lockKey))
	etcdtest.NoError(a, err)
	return found
}

// tokenOf returns what reads the token of a lock out of a result of lesson 08, which
// writes "done by ann, token 7".
func tokenOf(lock string) func(*history.KeyValue) (string, int64) {
	return func(result *history.KeyValue) (string, int64) {
		_, text, _ := strings.Cut(result.Value, ", token ")
		token, _ := strconv.ParseInt(text, 10, 64)
		return lock, token
	}
}

// falls returns the breaches by which a result replaced one with a higher token.
func falls(found []judge.Breach) []judge.Breach {
	return slices.DeleteFunc(slices.Clone(found), func(b judge.Breach) bool {
		return !strings.Contains(b.Why, "is lower than")
	})
}

// turn is a transaction of a contender, as testdata/contend_test.go writes it.
type turn struct {
	Contender  string
	Start, End int64 // nanoseconds since 1970
	Kind       string
	Token      int64
	Outcome    string
}

// fenced is what the contenders may see: each lock gets a token higher than the
// last one, and a write is accepted with the last token alone. A write that was
// refused, or of which nobody knows, changes nothing that they could see.
var fenced = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		last, c := state.(int64), input.(turn)
		if c.Kind == "lock" {
			return c.Token > last, c.Token
		}
		return c.Token == last, last
	},
}

// checkTurns checks the calls that were acknowledged against fenced.
func checkTurns(turns []turn) porcupine.CheckResult {
	var operations []porcupine.Operation
	for _, turn := range turns {
		if turn.Outcome == "ok" {
			operations = append(operations, porcupine.Operation{Input: turn, Call: turn.Start, Return: turn.End})
		}
	}
	return porcupine.CheckOperationsTimeout(fenced, operations, time.Minute)
}

const (
	processes  = 4 // of contenders
	goroutines = 4 // in each
)

// rules are those of a contest.
type rules struct {
	flag   string            // for the lesson
	work   time.Duration     // of the fastest; the slowest work seven times as long
	alone  int               // more contenders, whose calls nobody logs: the lesson's program, run again and again
	each   int64             // a fault strikes after each so many writes
	enough func(*arena) bool // ends it
	limit  time.Duration     // fails it
}

// arena is where a contest takes place, and what is known of it: what etcd did, and
// the calls of the contenders.
type arena struct {
	site
	relays [processes][]*harness.Relay
	procs  [processes]*harness.Running
	faults []*strike
	record *history.Record
	turns  []turn
}

// writes returns how many results were accepted so far.
func (a *arena) writes() int64 {
	if result := a.record.Present().Get(resultKey); result != nil {
		return result.Version
	}
	return 0
}

// contend has contenders run the lesson.
func contend(t *testing.T, rules rules) *arena {
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	a := &arena{site: site{T: t, random: harness.Random(t), etcd: etcd, client: etcdtest.Connect(t, etcd.Endpoints()...)}}
	recorder, record := recordEtcd(t, history.Source{Etcd: clientv3.Config{Endpoints: etcd.Endpoints()}})
	a.record = record
	calls := keepFile(t, "json")
	var ends []io.Closer
	for p := range processes {
		ends = append(ends, a.launch(p, calls.Name(), rules.flag, time.Duration(1+2*p)*rules.work))
	}
	stopAlone := repeat(t, rules.alone, a.random, func(ctx context.Context, i int, _ *rand.Rand) {
		a.runLesson(ctx, i, rules.flag, 2*rules.work)
	})
	began := time.Now()
	a.disturb(rules)
	took := time.Since(began)
	for _, end := range ends {
		end.Close()
	}
	stopAlone()
	for _, proc := range a.procs {
		if got := proc.Wait(t); got.Status != 0 {
			t.Errorf("the contenders: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
		}
	}

	get, err := a.client.Get(etcdtest.Soon(t), resultKey)
	etcdtest.NoError(t, err)
	awaitRevision(t, recorder, record, get.Header.Revision)
	a.turns = decode[turn](t, calls)
	outcomes := map[string]int{}
	for _, c := range a.turns {
		if c.Kind == "write" {
			outcomes[c.Outcome]++
		}
	}
	t.Logf("%d contenders, %d writes in etcd, in %v; of those logged %v; %v",
		processes*goroutines+rules.alone, a.writes(), took.Round(time.Second), outcomes, a.faults)
	return a
}

// launch starts a process of contenders, each with a network of its own. It ends
// when what it returns is closed.
func (a *arena) launch(p int, calls, flag string, work time.Duration) (end io.Closer) {
	var lists []string
	for range goroutines {
		network := a.newNetwork()
		a.relays[p] = append(a.relays[p], network...)
		lists = append(lists, endpointsOf(network))
	}
	a.procs[p], end = harness.StartOverlaid(a, "08-txn-lock", "TestContend",
		[]string{"CONTEND_ENDPOINTS=" + strings.Join(lists, ";"), "CONTEND_HISTORY=" + calls},
		"-name", fmt.Sprint("p", p), "-ttl", "2", "-work", work.String(), "-wait", flag)
	return end
}

// runLesson runs the lesson's program.
func (a *arena) runLesson(ctx context.Context, i int, flag string, work time.Duration) {
	proc := exec.CommandContext(ctx, harness.Program(a, "08-txn-lock"), "-name", fmt.Sprint("alone", i),
		"-ttl", "2", "-work", work.String(), "-wait", flag)
	proc.Cancel = func() error { return proc.Process.Signal(syscall.SIGINT) }
	proc.Env = harness.Env("ETCDCTL_ENDPOINTS=" + strings.Join(a.etcd.Endpoints(), ","))
	proc.Run() // Losing the lock, or etcd, is part of the game.
}

// strike is a kind of fault in a contest.
type strike struct {
	name  string
	at    func() (hit bool) // when it found no holder, it tries again
	count int
}

func (s *strike) String() string { return fmt.Sprint(s.name, " ", s.count) }

// disturb lets faults strike, at random, until it is enough.
func (a *arena) disturb(rules rules) {
	began := time.Now()
	revoked := &strike{name: "lease revoked", at: a.revoke}
	others := []*strike{{name: "holder paused", at: a.pause}, {name: "holder cut off", at: a.cutOff}}
	for _, f := range clusterFaults() {
		others = append(others, &strike{name: f.name, at: func() bool {
			f.comesAndGoes(&a.site)
			return true
		}})
	}
	a.faults = append(others, revoked)
	var turn []*strike // each of the others comes before any comes again
	for i := int64(1); !rules.enough(a); i++ {
		if time.Since(began) > rules.limit {
			a.Fatalf("it is not enough in time: %d writes", a.writes())
		}
		// The faults are spread over the run by what was written, not by time.
		etcdtest.Eventually(a, "results are written", func() bool { return a.writes() >= i*rules.each || rules.enough(a) })
		f := revoked
		if i%6 == 0 {
			if len(turn) == 0 {
				turn = slices.Clone(others)
				a.random.Shuffle(len(turn), func(i, j int) { turn[i], turn[j] = turn[j], turn[i] })
			}
			f, turn = turn[0], turn[1:]
		}
		for !f.at() {
		}
		f.count++
	}
}

// holder returns who has the lock now, as a process of contenders, and the key of the
// lock. It waits until it is one of them.
func (a *arena) holder() (process int, lock *mvccpb.KeyValue) {
	etcdtest.Eventually(a, "one of the processes has the lock", func() bool {
		get, err := a.client.Get(etcdtest.Soon(a), lockKey)
		if err != nil || get.Count == 0 {
			return false
		}
		lock = get.Kvs[0]
		name, found := strings.CutPrefix(string(lock.Value), "p")
		process, err = strconv.Atoi(name)
		return found && err == nil
	})
	return process, lock
}

// runsOut returns when the lock is gone. It reports whether it was not released: then
// it has lasted for most of its TTL of 2 s, and now another may have it.
func (a *arena) runsOut(lock *mvccpb.KeyValue) bool {
	began := time.Now()
	etcdtest.Eventually(a, "the lock is gone", func() bool {
		now := a.record.Present()
		has := now.Get(lockKey)
		return now.Revision >= lock.CreateRevision && (has == nil || has.Create != lock.CreateRevision)
	})
	if time.Since(began) < time.Second {
		return false
	}
	time.Sleep(time.Duration(a.random.IntN(int(time.Second))))
	return true
}

func (a *arena) revoke() bool {
	_, lock := a.holder()
	_, err := a.client.Revoke(etcdtest.Soon(a), clientv3.LeaseID(lock.Lease))
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		a.Error(err)
	}
	return err == nil
}

func (a *arena) pause() bool {
	p, lock := a.holder()
	etcdtest.NoError(a, a.procs[p].Process.Signal(syscall.SIGSTOP))
	hit := a.runsOut(lock)
	etcdtest.NoError(a, a.procs[p].Process.Signal(syscall.SIGCONT))
	return hit
}

// cutOff holds back what a process sends and gets, its writes and renewals alike.
func (a *arena) cutOff() bool {
	p, lock := a.holder()
	hold(a.relays[p])
	hit := a.runsOut(lock)
	resume(a.relays[p])
	return hit
}

// TestLockChecker gives the check of the calls histories that it must refuse, and some
// that it must not.
func TestLockChecker(t *testing.T) {
	for _, c := range []struct {
		name  string
		turns []turn
		want  porcupine.CheckResult
	}{
		{"right", []turn{{"a", 1, 2, "lock", 5, "ok"}, {"a", 3, 4, "write", 5, "ok"},
			{"b", 5, 6, "lock", 7, "ok"}, {"a", 8, 9, "write", 5, "refused"}}, porcupine.Ok},
		{"still under way", []turn{{"a", 1, 2, "lock", 5, "ok"}, {"a", 3, 7, "write", 5, "ok"},
			{"b", 5, 6, "lock", 7, "ok"}}, porcupine.Ok},
		{"stale", []turn{{"a", 1, 2, "lock", 5, "ok"}, {"b", 5, 6, "lock", 7, "ok"},
			{"a", 8, 9, "write", 5, "ok"}}, porcupine.Illegal},
		{"the token falls", []turn{{"a", 1, 2, "lock", 7, "ok"}, {"b", 5, 6, "lock", 5, "ok"}}, porcupine.Illegal},
	} {
		if got := checkTurns(c.turns); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
