//go:build unix

package tests

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/judge"
	"example.com/etcd-by-example/tests/internal/harness"
)

// classSize is how many learners a proof has, and all at once. A desk is a process.
func classSize(short, long int) int {
	if etcdtest.Nightly() {
		return long
	}
	return short
}

// sitAll has learners join at the same time.
func (r *room) sitAll(t testing.TB, prefix string, count int) []*seat {
	t.Helper()
	seats := make([]*seat, count)
	for i := range seats {
		seats[i] = newSeat(t, fmt.Sprint(prefix, i))
		seats[i].Running = seats[i].try(t, r.code)
	}
	for _, s := range seats {
		harness.NoError(t, s.Printed("Ctrl-C leaves.", time.Minute))
	}
	return seats
}

// runAll runs lessons one after the other for each learner, all learners at the same
// time, and returns how long it took.
func runAll(t testing.TB, learners int, names []string, at func(learner int) (endpoint string, env []string)) time.Duration {
	t.Helper()
	for _, name := range names {
		harness.Program(t, name) // It is built before the clock runs.
	}
	began := time.Now()
	var all sync.WaitGroup
	for i := range learners {
		endpoint, env := at(i)
		all.Go(func() {
			for _, name := range names {
				got, err := runBounded(t, endpoint, env, name)
				if err != nil || got.Status != 0 {
					t.Errorf("learner %d, %s: status %d, %v\n%s%s", i, name, got.Status, err, got.Stdout, got.Stderr)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

// runBounded runs a lesson from a goroutine of its own, which must not end the test.
func runBounded(t testing.TB, endpoint string, env []string, name string, args ...string) (got harness.Result, err error) {
	p := harness.Start(t, endpoint, env, name, args...)
	select {
	case <-p.Ended:
		return p.Wait(t), nil
	case <-time.After(3 * time.Minute):
		return harness.Result{Stdout: p.Stdout.String(), Stderr: p.Stderr.String()}, fmt.Errorf("it does not end")
	}
}

// TestClassProof has a full room run all lessons at once. Nothing fails, and etcd stays
// small. Then all contend for the one lock of the class. The short form has a few
// learners and the quick lessons.
func TestClassProof(t *testing.T) {
	etcdtest.NeedsLong(t, "a room of learners")
	t.Parallel()
	size, names := 6, []string{"01-connect", "02-put", "04-delete", "07-op"}
	if etcdtest.Nightly() {
		size, names = 100, harness.Lessons
	}
	r := openRoom(t, 1)
	seats := r.sitAll(t, "learner-", size)
	runAll(t, size, names, func(i int) (string, []string) { return seats[i].own, nil })
	memory := r.memory(t)
	t.Logf("etcd has %d MiB of memory", memory>>20)
	if memory > 1<<30 {
		t.Error("it is more than 1 GiB")
	}
	contendInClass(t, r, seats[:min(size, 60)])
}

// BenchmarkClass has a hundred learners run all lessons at once: at their desks in a
// class, and without desks, certificates and users, each in a namespace of a plain etcd.
// The ratio is class/plain; at most 1.3 is the aim.
func BenchmarkClass(b *testing.B) {
	const size = 100
	etcdtest.Reserve(b, 2)
	r := newRoom(b, 1)
	seats := r.sitAll(b, "learner-", size)
	plain := etcdtest.Etcd(b, cluster.Config{})
	var with, without time.Duration
	for b.Loop() {
		without += runAll(b, size, harness.Lessons, func(i int) (string, []string) {
			return plain.Endpoints()[0], []string{fmt.Sprintf("ETCD_NAMESPACE=learner-%d/", i)}
		})
		with += runAll(b, size, harness.Lessons, func(i int) (string, []string) { return seats[i].own, nil })
	}
	b.ReportMetric(with.Seconds()/float64(b.N), "s-class")
	b.ReportMetric(without.Seconds()/float64(b.N), "s-plain")
	b.ReportMetric(with.Seconds()/without.Seconds(), "class/plain")
}

// memory returns how many bytes of memory the class's members have, together.
func (r *room) memory(t *testing.T) (size int64) {
	t.Helper()
	list := r.act(t, "member", "list")
	found := regexp.MustCompile(`process ([0-9]+)`).FindAllStringSubmatch(list.Stdout, -1)
	if len(found) == 0 {
		t.Fatalf("no member runs:\n%s%s", list.Stdout, list.Stderr)
	}
	for _, pid := range found {
		kilobytes, err := exec.Command("ps", "-o", "rss=", "-p", pid[1]).Output()
		harness.NoError(t, err)
		resident, err := strconv.ParseInt(strings.TrimSpace(string(kilobytes)), 10, 64)
		harness.NoError(t, err)
		size += resident << 10
	}
	return size
}

// contendInClass has learners wait for one lock, all at once, and judges what etcd did.
func contendInClass(t *testing.T, r *room, seats []*seat) {
	t.Helper()
	// The teacher's keys let the test see the whole store.
	authority, err := class.OpenAuthority(r.data)
	harness.NoError(t, err)
	secure, err := authority.Secure()
	harness.NoError(t, err)
	etcd := clientv3.Config{Endpoints: []string{fmt.Sprint("https://127.0.0.1:", r.port+1)}, TLS: secure.Client}
	recorder, err := history.Start(t.Context(), history.Source{Etcd: etcd})
	harness.NoError(t, err)
	defer recorder.Close()
	harness.Eventually(t, "the store is recorded", func() bool { return recorder.Record().Last() > 0 })
	first := recorder.Record().Last()
	var all sync.WaitGroup
	for _, s := range seats {
		all.Go(func() {
			got, err := runBounded(t, s.common, nil, "08-txn-lock", "-name", s.name, "-wait", "-work", "1ms")
			if err != nil || !strings.Contains(got.Stdout, "done by "+s.name) {
				t.Errorf("%s has not done it: %v\n%s%s", s.name, err, got.Stdout, got.Stderr)
			}
		})
	}
	all.Wait()
	lock, result := class.Prefix(class.Common)+lockKey, class.Prefix(class.Common)+resultKey
	written := int64(0)
	harness.Eventually(t, "all results are recorded", func() bool {
		if last := recorder.Record().Present().Get(result); last != nil {
			written = last.Version
		}
		return written >= int64(len(seats))
	})
	record := recorder.Record()
	two, err := judge.OneHolder(record, first, record.Last(), judge.Key(lock))
	harness.NoError(t, err)
	stale, err := judge.Fenced(record, first, record.Last(), judge.Key(result), tokenOf(lock))
	harness.NoError(t, err)
	for _, breach := range append(two, stale...) {
		t.Error(breach)
	}
}

// TestClassJoinsProof has learners join while others work. Whoever is let in changes the
// users of etcd, and each such change refuses what is under way: nobody notices.
func TestClassJoinsProof(t *testing.T) {
	etcdtest.NeedsLong(t, "a room of learners")
	t.Parallel()
	working, joining := classSize(4, 40), classSize(4, 34)
	r := openRoom(t, classSize(1, 3))
	seats := r.sitAll(t, "at-work-", working)
	// Those that write, read, watch and renew, for as long as others come in.
	names := []string{"02-put", "03-get", "04-delete", "06-watch", "07-op", "08-txn-lock"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for _, s := range seats {
		all.Go(func() {
			for rounds := 0; ctx.Err() == nil || rounds == 0; rounds++ {
				for _, name := range names {
					got, err := runBounded(t, s.own, nil, name)
					if err != nil || got.Status != 0 || got.Stderr != "" {
						t.Errorf("%s, %s: status %d, %v\n%s%s", s.name, name, got.Status, err, got.Stdout, got.Stderr)
						return
					}
				}
			}
		})
	}
	for i := range 3 {
		r.sitAll(t, fmt.Sprintf("late-%d-", i), joining/3+1)
	}
	cancel()
	all.Wait()
	list := r.act(t, "class", "list")
	if got := strings.Count(list.Stdout, ", here, "); got != working+3*(joining/3+1) {
		t.Errorf("%d are there:\n%s%s", got, list.Stdout, list.Stderr)
	}
}

// TestClassMajorityProof has lesson 06 run at a desk while a majority is gone: it tells of
// it, and goes on when it is back. Then the leader is killed for all.
func TestClassMajorityProof(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	r := openRoom(t, 3)
	ann := r.sit(t, "ann")
	got := harness.Run(t, ann.own, nil, "01-connect")
	if members := strings.Count(got.Stdout, ", for clients at [http://"+ann.own+"]"); got.Status != 0 || members != 3 {
		t.Errorf("01-connect: status %d, %d members\n%s%s", got.Status, members, got.Stdout, got.Stderr)
	}
	act := func(args ...string) {
		t.Helper()
		if got := r.act(t, append([]string{"member"}, args...)...); got.Status != 0 {
			t.Fatalf("member %s: %s", strings.Join(args, " "), got.Stderr)
		}
	}
	lesson := harness.Start(t, ann.own, nil, "06-watch", "-for", "1h")
	lesson.Await(t, "DELETE")
	act("kill", "followers")
	lesson.Await(t, "etcd has no leader: waiting for one")
	act("restart", "stopped")
	own := etcdtest.Connect(t, ann.own)
	harness.Eventually(t, "etcd writes again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := own.Put(ctx, "/cron/jobs/watch/mine", "back")
		return err == nil
	})
	lesson.Await(t, `-> "back"`)
	act("kill", "leader")
	harness.Eventually(t, "another leader writes", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := own.Put(ctx, "/cron/jobs/watch/mine", "led by another")
		return err == nil
	})
	lesson.Await(t, `-> "led by another"`)
	harness.Interrupt(t, lesson)
	lesson.Wait(t)
}
