//go:build unix

package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/judge"
	"example.com/etcd-by-example/tests/internal/harness"
)

// sitAll has learners join at the same time.
func (r *room) sitAll(t testing.TB, prefix string, count int) []*seat {
	t.Helper()
	seats := make([]*seat, count)
	for i := range seats {
		seats[i] = newSeat(t, fmt.Sprint(prefix, i))
		seats[i].Running = seats[i].try(t, r.code)
	}
	for _, s := range seats {
		s.Await(t, "Ctrl-C leaves.")
	}
	return seats
}

// runs runs lessons one after the other, until one fails.
func runs(t *testing.T, endpoint string, lessons ...string) {
	for _, lesson := range lessons {
		if !succeeds(t, endpoint, lesson) {
			return
		}
	}
}

// succeeds reports whether a lesson does what it should, in a goroutine of its own,
// which must not end the test.
func succeeds(t *testing.T, endpoint, lesson string, flags ...string) bool {
	p := harness.Start(t, endpoint, nil, lesson, flags...)
	select {
	case <-p.Ended:
		if got := p.Wait(t); got.Status == 0 && got.Stderr == "" {
			return true
		}
	case <-time.After(3 * time.Minute):
	}
	t.Errorf("%s at %s, ended: %t\n%s%s", lesson, endpoint, p.HasEnded(), p.Stdout, p.Stderr)
	return false
}

// atOnce has learners do something, all at the same time.
func atOnce(seats []*seat, do func(*seat)) {
	var all sync.WaitGroup
	for _, s := range seats {
		all.Go(func() { do(s) })
	}
	all.Wait()
}

// TestClassProof has a full room run all lessons at once, and nothing fails. Then all
// contend for the one lock of the class. The short form has a few learners and the
// quick lessons.
func TestClassProof(t *testing.T) {
	etcdtest.NeedsLong(t, "a room of learners")
	t.Parallel()
	size, names := 6, []string{"01-connect", "02-put", "04-delete", "07-op"}
	if etcdtest.Nightly() {
		size, names = 100, harness.Lessons
	}
	r := openRoom(t, 1)
	seats := r.sitAll(t, "learner-", size)
	atOnce(seats, func(s *seat) { runs(t, s.own, names...) })
	contendInClass(t, r, seats[:min(size, 60)])
}

// contendInClass has learners wait for one lock, all at once, and judges what etcd did.
func contendInClass(t *testing.T, r *room, seats []*seat) {
	t.Helper()
	// The teacher's keys let the test see the whole store.
	authority, err := class.OpenAuthority(r.data)
	etcdtest.NoError(t, err)
	secure, err := authority.Secure()
	etcdtest.NoError(t, err)
	etcd := clientv3.Config{Endpoints: []string{fmt.Sprint("https://127.0.0.1:", r.port+1)}, TLS: secure.Client}
	_, record := recordEtcd(t, history.Source{Etcd: etcd})
	first := record.Last()
	atOnce(seats, func(s *seat) { succeeds(t, s.common, "08-txn-lock", "-name", s.name, "-wait", "-work", "1ms") })
	lock, result := class.Prefix(class.Common)+lockKey, class.Prefix(class.Common)+resultKey
	etcdtest.Eventually(t, "all results are recorded", func() bool {
		last := record.Present().Get(result)
		return last != nil && last.Version >= int64(len(seats))
	})
	two, err := judge.OneHolder(record, first, record.Last(), judge.Key(lock))
	etcdtest.NoError(t, err)
	stale, err := judge.Fenced(record, first, record.Last(), judge.Key(result), tokenOf(lock))
	etcdtest.NoError(t, err)
	for _, breach := range append(two, stale...) {
		t.Error(breach)
	}
}

// TestClassJoinsProof has learners join while others work. Whoever is let in changes the
// users of etcd, and each such change refuses what is under way: nobody notices.
func TestClassJoinsProof(t *testing.T) {
	etcdtest.NeedsLong(t, "a room of learners")
	t.Parallel()
	members, working, late := 1, 4, 2
	if etcdtest.Nightly() {
		members, working, late = 3, 40, 12
	}
	r := openRoom(t, members)
	seats := r.sitAll(t, "at-work-", working)
	// Those that write, read, watch and renew, for as long as others come in.
	names := []string{"02-put", "03-get", "04-delete", "06-watch", "07-op", "08-txn-lock"}
	stop := repeat(t, working, harness.Random(t), func(_ context.Context, n int, _ *rand.Rand) {
		runs(t, seats[n].own, names...)
	})
	for i := range 3 {
		r.sitAll(t, fmt.Sprintf("late-%d-", i), late)
	}
	stop()
	list := r.act(t, "class", "list")
	if got := strings.Count(list.Stdout, ", here, "); got != working+3*late {
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
	lesson.Await(t, "no leader: trying again")
	act("restart", "stopped")
	own := etcdtest.Connect(t, ann.own)
	seesPut := func(value string) {
		t.Helper()
		etcdtest.Eventually(t, "etcd writes again", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := own.Put(ctx, "/cron/jobs/watch/mine", value)
			return err == nil
		})
		lesson.Await(t, `-> "`+value+`"`)
	}
	seesPut("back")
	act("kill", "leader")
	seesPut("led by another")
	harness.Interrupt(t, lesson)
	lesson.Wait(t)
}
