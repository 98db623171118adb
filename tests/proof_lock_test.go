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
	writes, each := int64(150), int64(4)
	if etcdtest.Nightly() {
		writes, each = 10_000, 25
	}
	run := contend(t, rules{flag: "-guard=true", work: time.Millisecond, alone: 2, each: each,
		enough: func(a *arena) bool { return a.writes() >= writes }})
	for _, f := range run.faults {
		if f.count == 0 {
			t.Errorf("it did not strike: %s", f.name)
		}
	}
	found := slices.Concat(run.holders(t), run.results(t))
	for _, breach := range found[:min(10, len(found))] {
		t.Error(breach)
	}
	if result := run.linearizable(t); result != porcupine.Ok {
		t.Errorf("the calls of the contenders are not linearizable: %v", result)
	}
}

// TestLockWithoutGuard shows that the checks of TestLockProof see what they are
// for: without the guard, they have to find writes that come too late.
func TestLockWithoutGuard(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	// With longer work, a fault nearly always finds a holder in the middle of it.
	run := contend(t, rules{flag: "-guard=false", work: 20 * time.Millisecond, each: 2,
		enough: func(a *arena) bool { return len(falls(a.results(t))) >= 3 }})
	if found := run.results(t); len(falls(found)) == 0 {
		t.Errorf("no write with a token lower than one before is found: %q", found)
	}
	if found := run.holders(t); len(found) > 0 {
		t.Errorf("the guard has nothing to do with this: %q", found)
	}
	if result := run.linearizable(t); result != porcupine.Illegal {
		t.Errorf("the calls of the contenders are %v, want Illegal", result)
	}
}

// contest is what is known of a run: what etcd did, and the calls of the contenders.
type contest struct {
	record *history.Record
	faults []*strike
	turns  []turn
}

// holders returns where the lock had two holders or no lease.
func (c *contest) holders(t *testing.T) []judge.Breach {
	t.Helper()
	lock := judge.Key(lockKey)
	two, err := judge.OneHolder(c.record, 1, c.record.Last(), lock)
	harness.NoError(t, err)
	unleased, err := judge.AlwaysLeased(c.record, 1, c.record.Last(), lock)
	harness.NoError(t, err)
	return slices.Concat(two, unleased)
}

// results returns which results were written with a token other than the holder's.
func (c *contest) results(t *testing.T) []judge.Breach {
	t.Helper()
	found, err := judge.Fenced(c.record, 1, c.record.Last(), judge.Key(resultKey), tokenOf(lockKey))
	harness.NoError(t, err)
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
	DescribeOperation: func(input, _ any) string {
		c := input.(turn)
		return fmt.Sprintf("%s %d", c.Kind, c.Token)
	},
}

// linearizable checks the calls that were acknowledged against fenced.
func (c *contest) linearizable(t *testing.T) porcupine.CheckResult {
	t.Helper()
	clients := map[string]int{}
	var operations []porcupine.Operation
	for _, turn := range c.turns {
		if turn.Outcome != "ok" {
			continue
		}
		if _, known := clients[turn.Contender]; !known {
			clients[turn.Contender] = len(clients)
		}
		operations = append(operations, porcupine.Operation{
			ClientId: clients[turn.Contender], Input: turn, Call: turn.Start, Return: turn.End,
		})
	}
	start := time.Now()
	result := porcupine.CheckOperationsTimeout(fenced, operations, time.Minute)
	t.Logf("%d acknowledged calls checked in %v: %v", len(operations), time.Since(start), result)
	return result
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
}

// arena is where a contest takes place.
type arena struct {
	site
	contest
	relays [processes][goroutines][]*harness.Relay
	procs  [processes]*harness.Running
}

// writes returns how many results were accepted so far.
func (a *arena) writes() int64 {
	if result := a.record.Present().Get(resultKey); result != nil {
		return result.Version
	}
	return 0
}

// await returns when the condition holds, or ctx has ended. It asks again at each
// change.
func (a *arena) await(ctx context.Context, condition func() bool) {
	for ctx.Err() == nil {
		next := a.record.Next()
		if condition() {
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

// contend has contenders run the lesson.
func contend(t *testing.T, rules rules) *contest {
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	a := &arena{site: site{T: t, random: harness.Random(t), etcd: etcd, client: etcdtest.Connect(t, etcd.Endpoints()...)}}
	recorder, record := recordEtcd(t, history.Source{Etcd: clientv3.Config{Endpoints: etcd.Endpoints()}})
	a.record = record
	calls := keepFile(t, "json")
	limit := 4 * time.Minute
	if etcdtest.Nightly() {
		limit = 45 * time.Minute
	}
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()

	var ends []io.Closer
	for p := range processes {
		ends = append(ends, a.launch(p, calls.Name(), rules.flag, time.Duration(1+2*p)*rules.work))
	}
	stopAlone := repeat(t, rules.alone, a.random, func(ctx context.Context, i int, _ *rand.Rand) {
		a.runLesson(ctx, i, rules.flag, 2*rules.work)
	})
	began := time.Now()
	a.disturb(ctx, rules.each, rules.enough)
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
	get, err := a.client.Get(harness.Soon(t), resultKey)
	harness.NoError(t, err)
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
	return &a.contest
}

// launch starts a process of contenders, each with a network of its own. It ends
// when what it returns is closed.
func (a *arena) launch(p int, calls, flag string, work time.Duration) (end io.Closer) {
	var lists []string
	for g := range goroutines {
		var list []string
		for _, m := range a.etcd.Members {
			r := harness.NewRelay(a, m.Endpoint)
			a.relays[p][g] = append(a.relays[p][g], r)
			a.network = append(a.network, r)
			list = append(list, r.Address)
		}
		a.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		lists = append(lists, strings.Join(list, ","))
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
	rare  int64                                // at most one in so many faults
	at    func(ctx context.Context) (hit bool) // when it found no holder, it tries again
	count int64
}

func (s *strike) String() string { return fmt.Sprint(s.name, " ", s.count) }

// disturb lets faults strike, at random, until it is enough.
func (a *arena) disturb(ctx context.Context, each int64, enough func(*arena) bool) {
	a.faults = []*strike{
		{name: "lease revoked", rare: 1, at: a.revoke},
		{name: "holder paused", rare: 40, at: a.pause},
		{name: "holder cut off", rare: 40, at: a.cutOff},
	}
	for _, f := range clusterFaults() {
		a.faults = append(a.faults, &strike{name: f.name, rare: 100, at: func(context.Context) bool {
			f.comesAndGoes(&a.site)
			return true
		}})
	}
	var turn []*strike // of those that are not leases revoked: each comes before any comes again
	for i := int64(1); !enough(a); i++ {
		// The faults are spread over the run by what was written, not by time.
		a.await(ctx, func() bool { return a.writes() >= i*each || enough(a) })
		if ctx.Err() != nil {
			a.Errorf("it is not enough in time: %d writes", a.writes())
			return
		}
		f := a.faults[0]
		if i%4 == 0 {
			if len(turn) == 0 {
				turn = slices.Clone(a.faults[1:])
				a.random.Shuffle(len(turn), func(i, j int) { turn[i], turn[j] = turn[j], turn[i] })
			}
			f, turn = turn[0], turn[1:]
		}
		if f.count > i/f.rare {
			f = a.faults[0]
		}
		for !f.at(ctx) && ctx.Err() == nil {
		}
		f.count++
	}
}

// holder returns who has the lock now, as a process of contenders, and the key of the
// lock. It waits until it is one of them.
func (a *arena) holder(ctx context.Context) (process int, lock *mvccpb.KeyValue) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		get, err := a.client.Get(ctx, lockKey)
		if err != nil || get.Count == 0 {
			continue
		}
		process, found := strings.CutPrefix(string(get.Kvs[0].Value), "p")
		if number, err := strconv.Atoi(process); found && err == nil {
			return number, get.Kvs[0]
		}
	}
	a.Fatal("none of the processes gets the lock")
	return 0, nil
}

// runsOut returns when the lock is gone. It reports whether it was not released: then
// it has lasted for most of its TTL of 2 s, and now another may have it.
func (a *arena) runsOut(ctx context.Context, lock *mvccpb.KeyValue) bool {
	began := time.Now()
	a.await(ctx, func() bool {
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

func (a *arena) revoke(ctx context.Context) bool {
	_, lock := a.holder(ctx)
	_, err := a.client.Revoke(harness.Soon(a), clientv3.LeaseID(lock.Lease))
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		a.Error(err)
	}
	return err == nil
}

func (a *arena) pause(ctx context.Context) bool {
	p, lock := a.holder(ctx)
	if err := a.procs[p].Process.Signal(syscall.SIGSTOP); err != nil {
		a.Error(err)
	}
	hit := a.runsOut(ctx, lock)
	if err := a.procs[p].Process.Signal(syscall.SIGCONT); err != nil {
		a.Error(err)
	}
	return hit
}

// cutOff holds back what a process sends and gets, its writes and renewals alike.
func (a *arena) cutOff(ctx context.Context) bool {
	p, lock := a.holder(ctx)
	for _, network := range a.relays[p] {
		hold(network)
	}
	hit := a.runsOut(ctx, lock)
	for _, network := range a.relays[p] {
		for _, r := range network {
			r.Resume()
		}
	}
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
		if got := (&contest{turns: c.turns}).linearizable(t); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
