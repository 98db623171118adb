//go:build unix

package tests

import (
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

const lockKey = "/cron/lock/job9"

// TestLockIsHandedOver starts a holder, one that gives up and one that waits.
func TestLockIsHandedOver(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	ann := harness.Start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "8s", "-ttl", "60")
	ann.Await(t, "ann has the lock")

	loser := harness.Run(t, endpoint, nil, "08-txn-lock", "-name", "cat")
	loser.Want(t, 0, "cat has not got the lock: ann has", "")
	waiter := harness.Run(t, endpoint, nil, "08-txn-lock", "-name", "ben", "-work", "1ms", "-wait", "-ttl", "60")
	waiter.Want(t, 0, `"done by ben, token`, "")
	ann.Wait(t).Want(t, 0, `"done by ann, token`, "")
}

// TestLostLockEndsTheWork revokes the holder's lease from outside.
func TestLostLockEndsTheWork(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	client := etcdtest.Connect(t, endpoint)
	ann := harness.Start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "5m", "-ttl", "12")
	ann.Await(t, "ann has the lock")

	lock, err := client.Get(etcdtest.Soon(t), lockKey)
	if err != nil || lock.Count != 1 {
		t.Fatal(lock, err)
	}
	if _, err := client.Revoke(etcdtest.Soon(t), clientv3.LeaseID(lock.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	got := ann.Wait(t)
	got.Want(t, 1, "", "the lease is lost")
	oneLine(t, got.Stderr)
}

// TestWaiterSaysWhyItEnds has two wait for a lock: one that loses its lease
// meanwhile, because it is paused, and one that is interrupted.
func TestWaiterSaysWhyItEnds(t *testing.T) {
	etcdtest.NeedsLong(t, "half a minute")
	t.Parallel()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	client := etcdtest.Connect(t, endpoint)
	ann := harness.Start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "1m")
	ann.Await(t, "ann has the lock")
	ben := harness.Start(t, endpoint, nil, "08-txn-lock", "-name", "ben", "-ttl", "1", "-wait")
	ben.Await(t, "ben waits: ann has it")
	etcdtest.NoError(t, ben.Process.Signal(syscall.SIGSTOP))
	etcdtest.Eventually(t, "the lease of the one that is paused ends", func() bool {
		leases, err := client.Leases(etcdtest.Soon(t))
		return err == nil && len(leases.Leases) == 1
	})
	etcdtest.NoError(t, ben.Process.Signal(syscall.SIGCONT))
	ben.Wait(t).Want(t, 1, "", "the lease is lost")
	cat := harness.Start(t, endpoint, nil, "08-txn-lock", "-name", "cat", "-wait")
	cat.Await(t, "cat waits: ann has it")
	harness.Interrupt(t, cat)
	cat.Wait(t).Want(t, 1, "", "interrupted: lock "+lockKey)
	harness.Interrupt(t, ann)
	ann.Wait(t)
	harness.NoLeases(t, client)
}

// TestWaiterGivesUp has one wait for longer than it may.
func TestWaiterGivesUp(t *testing.T) {
	etcdtest.NeedsLong(t, "a minute")
	t.Parallel()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	ann := harness.Start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "1h", "-ttl", "60")
	ann.Await(t, "ann has the lock")
	ben := harness.Start(t, endpoint, nil, "08-txn-lock", "-name", "ben", "-wait", "-ttl", "60")
	got := ben.Wait(t)
	got.Want(t, 1, "", "it was not free for a minute")
	if got.Took < time.Minute {
		t.Errorf("it gave up after %v", got.Took)
	}
}

// TestStaleToken and TestWaitMissesNoRelease call the lesson's own functions.
func TestStaleToken(t *testing.T) { testOverlaid(t, "08-txn-lock") }

func TestWaitMissesNoRelease(t *testing.T) { testOverlaid(t, "08-txn-lock") }

// testOverlaid runs the test of the same name that is laid over a lesson, on an etcd
// of its own.
func testOverlaid(t *testing.T, lesson string) {
	t.Helper()
	etcdtest.NeedsLong(t, "it links a lesson with a test")
	t.Parallel()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	p, _ := harness.StartOverlaid(t, lesson, t.Name(), []string{"ETCDCTL_ENDPOINTS=" + endpoint}, "-test.v")
	p.Wait(t).Want(t, 0, "--- PASS: "+t.Name(), "")
}

// TestWaitWithExpiredToken has one wait whose watches are all refused: it goes on, now and
// then, and gets the lock.
func TestWaitWithExpiredToken(t *testing.T) {
	etcdtest.NeedsLong(t, "it links a lesson with a test")
	t.Parallel()
	endpoint := harness.Locked(t, "--auth-token-ttl=1")
	waiter, _ := harness.StartOverlaid(t, "08-txn-lock", t.Name(),
		[]string{"ETCDCTL_ENDPOINTS=" + endpoint, "ETCDCTL_USER=root:se:cret"})
	got := waiter.Wait(t)
	if tries := strings.Count(got.Stdout, "ben waits"); got.Status != 0 || tries == 0 || tries > int(got.Took/time.Second) {
		t.Errorf("status %d, %d tries in %v\n%.2000s%s", got.Status, tries, got.Took, got.Stdout, got.Stderr)
	}
}

// TestPausedHolderIsRefused pauses a holder until another one has the lock. When
// it goes on, its work is done, and the result comes too late.
func TestPausedHolderIsRefused(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	client := etcdtest.Connect(t, endpoint)
	ann := harness.Start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "5s", "-ttl", "1")
	ann.Await(t, "ann has the lock")
	etcdtest.NoError(t, ann.Process.Signal(syscall.SIGSTOP))
	ben := harness.Run(t, endpoint, nil, "08-txn-lock", "-name", "ben", "-work", "1ms", "-wait", "-ttl", "60")
	ben.Want(t, 0, `"done by ben, token`, "")
	etcdtest.NoError(t, ann.Process.Signal(syscall.SIGCONT))
	// It has noticed the loss before it writes, or it is refused when it does.
	comesOut(t, ann.Wait(t), "is stale|the lease is lost")
	result, err := client.Get(etcdtest.Soon(t), "/cron/jobs/job9")
	etcdtest.NoError(t, err)
	if result.Count != 1 || !strings.HasPrefix(string(result.Kvs[0].Value), "done by ben,") {
		t.Errorf("the result is %v", result.Kvs)
	}
}

// TestCutOffHolder cuts the leader off from the other members while a holder reaches
// nothing else. Another one gets the lock from the others; the first ends by itself,
// and has written nothing.
func TestCutOffHolder(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	leader := harness.Leader(t, etcd)
	var followers []string
	for _, m := range harness.Others(etcd, leader) {
		followers = append(followers, m.Endpoint)
	}
	ann := harness.Start(t, leader.Endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "5m")
	ann.Await(t, "ann has the lock")
	ben := harness.Start(t, strings.Join(followers, ","), nil, "08-txn-lock", "-name", "ben", "-ttl", "20", "-work", "0s", "-wait")
	ben.Await(t, "ben waits: ann has it")
	etcdtest.NoError(t, leader.Cut())
	cut := time.Now()
	ben.Await(t, "ben has the lock")
	passed := time.Since(cut)
	got := ann.Wait(t)
	// This includes up to 5 s in which it tries to revoke its lease.
	t.Logf("the lock was passed on %v after the cut; the first holder ended after %v", passed, time.Since(cut))
	got.Want(t, 1, "", "the lease is lost")
	if strings.Contains(got.Stdout, "done by") {
		t.Errorf("it has written:\n%s", got.Stdout)
	}
	ben.Wait(t).Want(t, 0, "", "")
	etcdtest.NoError(t, leader.Heal())
	etcdtest.Eventually(t, "the one that was cut off has what the other wrote", func() bool {
		get, err := etcdtest.Connect(t, leader.Endpoint).Get(etcdtest.Soon(t), resultKey)
		return err == nil && get.Count == 1 && strings.HasPrefix(string(get.Kvs[0].Value), "done by ben")
	})
}
