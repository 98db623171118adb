//go:build unix

package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
)

const resultKey = "/cron/jobs/job9"

// TestLockProof has many contend for the lock of lesson 08, in processes and
// goroutines that run the lesson itself, while holders are paused or cut off for
// longer than their TTL, leases are revoked and leaders killed. It checks that no
// two hold the lock at a time, and that no write comes in with a token other than
// the holder's.
func TestLockProof(t *testing.T) {
	parallel(t)
	writes, each := int64(150), int64(4)
	if *long {
		writes, each = 10_000, 25
	}
	run := contend(t, rules{flag: "-guard=true", work: time.Millisecond, alone: 2, each: each,
		enough: func(a *arena) bool { return a.writes.Load() >= writes }})
	for _, violation := range run.violations() {
		t.Error(violation)
	}
	if result := run.linearizable(t); result != porcupine.Ok {
		t.Errorf("the calls of the contenders are not linearizable: %v", result)
	}
}

// TestLockWithoutGuard shows that the checks of TestLockProof see what they are
// for: without the guard, they have to find writes that come too late.
func TestLockWithoutGuard(t *testing.T) {
	parallel(t)
	// With longer work, a fault nearly always finds a holder in the middle of it.
	run := contend(t, rules{flag: "-guard=false", work: 20 * time.Millisecond, each: 2,
		enough: func(a *arena) bool { return a.stale.Load() >= 3 }})
	violations := run.violations()
	if !slices.ContainsFunc(violations, func(v string) bool { return strings.Contains(v, "is lower than") }) {
		t.Errorf("no write with a token lower than one before is found: %q", violations)
	}
	if slices.ContainsFunc(violations, func(v string) bool { return strings.Contains(v, "two holders") }) {
		t.Errorf("the guard has nothing to do with this: %q", violations)
	}
	if result := run.linearizable(t); result != porcupine.Illegal {
		t.Errorf("the calls of the contenders are %v, want Illegal", result)
	}
}

// contest is what is known of a run: etcd's own history of the lock and of what
// it guards, and the calls of the contenders.
type contest struct {
	events []event
	turns  []turn
}

// event is a change in etcd's history.
type event struct {
	Revision int64
	Key      string
	Value    string
	Deleted  bool
	Created  bool
}

// turn is a transaction of a contender, as testdata/contend_test.go writes it.
type turn struct {
	Contender  string
	Start, End int64 // nanoseconds since 1970
	Kind       string
	Token      int64
	Outcome    string
}

// violations returns what etcd's history has that must not be.
func (c *contest) violations() (found []string) {
	var holder, highest int64
	for _, e := range c.events {
		switch {
		case e.Key == lockKey && e.Deleted:
			if holder == 0 {
				found = append(found, fmt.Sprintf("revision %d: a free lock is deleted", e.Revision))
			}
			holder = 0
		case e.Key == lockKey:
			if holder != 0 || !e.Created {
				found = append(found, fmt.Sprintf("revision %d: two holders, the first with token %d", e.Revision, holder))
			}
			holder = e.Revision
		case e.Key == resultKey:
			token := tokenOf(e.Value)
			if token != holder {
				found = append(found, fmt.Sprintf("revision %d: token %d writes, token %d has the lock", e.Revision, token, holder))
			}
			if token < highest {
				found = append(found, fmt.Sprintf("revision %d: token %d is lower than %d", e.Revision, token, highest))
			}
			highest = max(highest, token)
		}
	}
	return found
}

// tokenOf returns the token in the value that the lesson writes.
func tokenOf(value string) int64 {
	_, text, _ := strings.Cut(value, ", token ")
	token, _ := strconv.ParseInt(text, 10, 64)
	return token
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
	*testing.T
	random *rand.Rand
	etcd   *cluster.Cluster
	client *clientv3.Client
	relays [processes][goroutines][]*relay
	procs  [processes]*exec.Cmd

	writes atomic.Int64 // accepted so far
	stale  atomic.Int64 // of those, with a token lower than one before
}

// contend has contenders run the lesson.
func contend(t *testing.T, rules rules) *contest {
	a := &arena{T: t, random: random(t), etcd: startEtcd(t, cluster.Config{Members: 3})}
	a.client = connect(t, a.etcd.Endpoints()...)
	history := newRecord(t)
	run := &contest{}
	limit := 4 * time.Minute
	if *long {
		limit = 45 * time.Minute
	}
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()

	var watching sync.WaitGroup
	watching.Go(func() { run.events = a.watch(ctx, history) })

	binary := overlaid(t, "08-txn-lock")
	var ends []io.Closer
	for p := range processes {
		ends = append(ends, a.launch(p, binary, history.file.Name(), rules.flag, time.Duration(1+2*p)*rules.work))
	}
	fighting, end := context.WithCancel(ctx)
	var alone sync.WaitGroup
	for i := range rules.alone {
		alone.Go(func() { a.repeat(fighting, i, rules.flag, 2*rules.work) })
	}
	began := time.Now()
	faults := a.disturb(ctx, rules.each, rules.enough)
	took := time.Since(began)
	end()
	for _, end := range ends {
		end.Close()
	}
	for _, proc := range a.procs {
		if err := proc.Wait(); err != nil {
			t.Errorf("the contenders: %v\n%s", err, proc.Stderr)
		}
	}
	alone.Wait()

	// The watch has seen everything when it has seen this.
	if _, err := a.client.Delete(soon(t), resultKey); err != nil {
		t.Fatal(err)
	}
	watching.Wait()
	run.turns = turns(t, history.file.Name())
	outcomes := map[string]int{}
	for _, c := range run.turns {
		if c.Kind == "write" {
			outcomes[c.Outcome]++
		}
	}
	t.Logf("%d contenders, %d writes in etcd, in %v; of those logged %v; %s",
		processes*goroutines+rules.alone, a.writes.Load(), took.Round(time.Second), outcomes, faults)
	return run
}

// watch returns the history of the lock and of the result, until the result is
// deleted.
func (a *arena) watch(ctx context.Context, history *record) (events []event) {
	var highest int64
	for response := range a.client.Watch(ctx, "/cron/", clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := response.Err(); err != nil {
			a.Errorf("watch the contest: %v", err)
			return events
		}
		for _, e := range response.Events {
			e := event{
				Revision: e.Kv.ModRevision, Key: string(e.Kv.Key), Value: string(e.Kv.Value),
				Deleted: e.Type == mvccpb.Event_DELETE, Created: e.IsCreate(),
			}
			if e.Key == resultKey && e.Deleted {
				return events
			}
			if e.Key == resultKey {
				a.writes.Add(1)
				if token := tokenOf(e.Value); token < highest {
					a.stale.Add(1)
				} else {
					highest = token
				}
			}
			events = append(events, e)
			history.add(e)
		}
	}
	a.Error("the watch of the contest ended early")
	return events
}

// launch starts a process of contenders, each with a network of its own. It ends
// when what it returns is closed.
func (a *arena) launch(p int, binary, history, flag string, work time.Duration) io.Closer {
	var lists []string
	for g := range goroutines {
		var list []string
		for _, m := range a.etcd.Members {
			r := newRelay(a, m.Endpoint)
			a.relays[p][g] = append(a.relays[p][g], r)
			list = append(list, r.Address)
		}
		a.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		lists = append(lists, strings.Join(list, ","))
	}
	proc := exec.Command(binary, "-test.run", "Contend", "-test.timeout", "1h",
		"-name", fmt.Sprint("p", p), "-ttl", "2", "-work", work.String(), "-wait", flag)
	proc.Env = plainEnv("CONTEND_ENDPOINTS="+strings.Join(lists, ";"), "CONTEND_HISTORY="+history)
	proc.Stderr = newOutput()
	stdin, err := proc.StdinPipe()
	if err == nil {
		err = proc.Start()
	}
	if err != nil {
		a.Fatal(err)
	}
	a.procs[p] = proc
	a.Cleanup(func() { proc.Process.Kill() })
	return stdin
}

// repeat runs the lesson's program, one turn after the other.
func (a *arena) repeat(ctx context.Context, i int, flag string, work time.Duration) {
	for ctx.Err() == nil {
		proc := exec.CommandContext(ctx, program(a, "08-txn-lock"), "-name", fmt.Sprint("alone", i),
			"-ttl", "2", "-work", work.String(), "-wait", flag)
		proc.Cancel = func() error { return proc.Process.Signal(syscall.SIGINT) }
		proc.Env = plainEnv("ETCDCTL_ENDPOINTS=" + strings.Join(a.etcd.Endpoints(), ","))
		proc.Run() // Losing the lock, or etcd, is part of the game.
	}
}

// disturb lets faults strike, at random, and returns how many of each there were.
func (a *arena) disturb(ctx context.Context, each int64, enough func(*arena) bool) string {
	faults := []struct {
		name   string
		rare   int64 // at most one in so many faults
		strike func()
		count  int64
	}{
		{name: "revoked leases", rare: 1, strike: a.revoke},
		{name: "paused holders", rare: 40, strike: a.pause},
		{name: "holders cut off", rare: 40, strike: a.cutOff},
		{name: "killed leaders", rare: 100, strike: a.killLeader},
	}
	for i := int64(1); !enough(a); i++ {
		// The faults are spread over the run by what was written, not by time.
		for a.writes.Load() < i*each && !enough(a) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if ctx.Err() != nil {
			a.Errorf("it is not enough in time: %d writes", a.writes.Load())
			break
		}
		f := &faults[0]
		if i%4 == 0 {
			f = &faults[1+a.random.IntN(len(faults)-1)]
		}
		if f.count > i/f.rare {
			f = &faults[0]
		}
		f.strike()
		f.count++
	}
	var counts []string
	for _, f := range faults {
		counts = append(counts, fmt.Sprint(f.name, " ", f.count))
	}
	return strings.Join(counts, ", ")
}

// holder returns who has the lock now, as a process of contenders, and the lease
// of the lock; or -1 when it is none of them.
func (a *arena) holder() (process int, lease clientv3.LeaseID) {
	ctx := soon(a)
	for ctx.Err() == nil {
		get, err := a.client.Get(ctx, lockKey)
		if err != nil || get.Count == 0 {
			continue
		}
		process, found := strings.CutPrefix(string(get.Kvs[0].Value), "p")
		if number, err := strconv.Atoi(process); found && err == nil {
			return number, clientv3.LeaseID(get.Kvs[0].Lease)
		}
	}
	a.Fatal("none of the processes gets the lock")
	return 0, 0
}

// beyond is a time that is longer than the TTL of 2 s.
func (a *arena) beyond() time.Duration {
	return 2500*time.Millisecond + time.Duration(a.random.IntN(int(time.Second)))
}

func (a *arena) revoke() {
	_, lease := a.holder()
	if _, err := a.client.Revoke(soon(a), lease); err != nil &&
		!errors.Is(err, rpctypes.ErrLeaseNotFound) {
		a.Error(err)
	}
}

func (a *arena) pause() {
	p, _ := a.holder()
	if err := a.procs[p].Process.Signal(syscall.SIGSTOP); err != nil {
		a.Error(err)
	}
	time.Sleep(a.beyond())
	if err := a.procs[p].Process.Signal(syscall.SIGCONT); err != nil {
		a.Error(err)
	}
}

// cutOff holds back what a process sends and gets, its writes and renewals alike.
func (a *arena) cutOff() {
	p, _ := a.holder()
	for _, network := range a.relays[p] {
		hold(network)
	}
	time.Sleep(a.beyond())
	for _, network := range a.relays[p] {
		for _, r := range network {
			r.resume()
		}
	}
}

func (a *arena) killLeader() {
	if err := killLeader(a, a.etcd).Start(soon(a)); err != nil {
		a.Error(err)
	}
}

// turns reads the turns in a history.
func turns(t *testing.T, name string) (all []turn) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var c turn
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.Kind != "" {
			all = append(all, c)
		}
	}
	return all
}

// TestLockChecker gives the checks histories that they must refuse, and one that
// they must not.
func TestLockChecker(t *testing.T) {
	put := func(revision int64, key, value string) event {
		return event{Revision: revision, Key: key, Value: value, Created: key == lockKey}
	}
	free := func(revision int64) event { return event{Revision: revision, Key: lockKey, Deleted: true} }
	for _, c := range []struct {
		name, want string
		events     []event
	}{
		{"right", "", []event{put(2, lockKey, "a"), put(3, resultKey, "done by a, token 2"), free(4),
			put(5, lockKey, "b"), free(6)}},
		{"overlap", "two holders", []event{put(2, lockKey, "a"), put(3, lockKey, "b")}},
		{"stale", "token 2 is lower than 5", []event{put(2, lockKey, "a"), free(4), put(5, lockKey, "b"),
			put(6, resultKey, "done by b, token 5"), put(7, resultKey, "done by a, token 2")}},
		{"unlocked", "token 0 has the lock", []event{put(2, lockKey, "a"), free(4),
			put(7, resultKey, "done by a, token 2")}},
	} {
		found := strings.Join((&contest{events: c.events}).violations(), "; ")
		if (c.want == "") != (found == "") || !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
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
