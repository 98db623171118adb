//go:build unix

package tests

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
)

const lockKey = "/cron/lock/job9"

// TestLockIsHandedOver starts a holder, one that gives up and one that waits.
func TestLockIsHandedOver(t *testing.T) {
	parallel(t)
	endpoint := startEtcd(t, cluster.Config{}).Endpoints()[0]
	ann := start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "3s")
	ann.await(t, "ann has the lock")

	loser := run(t, endpoint, nil, "08-txn-lock", "-name", "cat")
	if loser.status != 0 || loser.stderr != "" ||
		!strings.Contains(loser.stdout, "cat has not got the lock: ann has") {
		t.Errorf("the loser: status %d\n%s%s", loser.status, loser.stdout, loser.stderr)
	}
	waiter := run(t, endpoint, nil, "08-txn-lock", "-name", "ben", "-work", "1ms", "-wait")
	if waiter.status != 0 || !strings.Contains(waiter.stdout, `"done by ben, token`) {
		t.Errorf("the waiter: status %d\n%s%s", waiter.status, waiter.stdout, waiter.stderr)
	}
	if holder := ann.wait(t); holder.status != 0 ||
		!strings.Contains(holder.stdout, `"done by ann, token`) {
		t.Errorf("the holder: status %d\n%s%s", holder.status, holder.stdout, holder.stderr)
	}
}

// TestLostLockEndsTheWork revokes the holder's lease from outside.
func TestLostLockEndsTheWork(t *testing.T) {
	parallel(t)
	endpoint := startEtcd(t, cluster.Config{}).Endpoints()[0]
	client := connect(t, endpoint)
	ann := start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "1m", "-ttl", "1")
	ann.await(t, "ann has the lock")

	lock, err := client.Get(soon(t), lockKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Revoke(soon(t), clientv3.LeaseID(lock.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	revoked := time.Now()
	got := ann.wait(t)
	if got.status != 1 || !strings.Contains(got.stderr, "the lease is lost") ||
		strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
	if took := time.Since(revoked); took > 10*time.Second {
		t.Errorf("the work went on for %v", took)
	}
}

// TestWaiterSaysWhyItEnds has two wait for a lock: one that loses its lease
// meanwhile, because it is paused, and one that is interrupted.
func TestWaiterSaysWhyItEnds(t *testing.T) {
	parallel(t)
	endpoint := startEtcd(t, cluster.Config{}).Endpoints()[0]
	client := connect(t, endpoint)
	ann := start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "1m")
	ann.await(t, "ann has the lock")
	ben := start(t, endpoint, nil, "08-txn-lock", "-name", "ben", "-ttl", "1", "-wait")
	ben.await(t, "ben waits: ann has it")
	if err := ben.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, leaseLimit, "the lease of the one that is paused ends", func() bool {
		leases, err := client.Leases(soon(t))
		return err == nil && len(leases.Leases) == 1
	})
	if err := ben.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := ben.wait(t); got.status != 1 || !strings.Contains(got.stderr, "the lease is lost") {
		t.Errorf("the paused one: status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
	cat := start(t, endpoint, nil, "08-txn-lock", "-name", "cat", "-wait")
	cat.await(t, "cat waits: ann has it")
	interrupt(t, cat)
	if got := cat.wait(t); got.status != 1 || !strings.Contains(got.stderr, "interrupted: lock "+lockKey) {
		t.Errorf("the interrupted one: status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
	interrupt(t, ann)
	ann.wait(t)
	noLeases(t, client)
}

// TestStaleToken calls the lesson's own functions with a token that is stale.
func TestStaleToken(t *testing.T) {
	parallel(t)
	binary := overlaid(t, "08-txn-lock")
	cmd := exec.CommandContext(soon(t), binary, "-test.run", "StaleToken", "-test.v")
	cmd.Env = plainEnv("ETCDCTL_ENDPOINTS=" + startEtcd(t, cluster.Config{}).Endpoints()[0])
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: TestStaleToken") {
		t.Errorf("%v\n%s", err, output)
	}
}

// TestPausedHolderIsRefused pauses a holder until another one has the lock. When
// it goes on, its work is done, and the result comes too late.
func TestPausedHolderIsRefused(t *testing.T) {
	parallel(t)
	endpoint := startEtcd(t, cluster.Config{}).Endpoints()[0]
	client := connect(t, endpoint)
	ann := start(t, endpoint, nil, "08-txn-lock", "-name", "ann", "-work", "100ms", "-ttl", "1")
	ann.await(t, "ann has the lock")
	if err := ann.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ben := run(t, endpoint, nil, "08-txn-lock", "-name", "ben", "-work", "1ms", "-wait")
	if ben.status != 0 || !strings.Contains(ben.stdout, `"done by ben, token`) {
		t.Fatalf("the second: status %d\n%s%s", ben.status, ben.stdout, ben.stderr)
	}
	if err := ann.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	got := ann.wait(t)
	// It has noticed the loss before it writes, or it is refused when it does.
	if got.status != 1 || !strings.Contains(got.stderr, "is stale") &&
		!strings.Contains(got.stderr, "the lease is lost") {
		t.Errorf("the first: status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
	result, err := client.Get(soon(t), "/cron/jobs/job9")
	if err != nil {
		t.Fatal(err)
	}
	if value := string(result.Kvs[0].Value); !strings.HasPrefix(value, "done by ben,") {
		t.Errorf("the result is %q", value)
	}
}

// TestWatchSurvivesCompaction compacts what the watch has not seen yet, while
// etcd is restarted and the lesson paused.
func TestWatchSurvivesCompaction(t *testing.T) {
	leave := parallel(t)
	etcd := startEtcd(t, cluster.Config{})
	endpoint := etcd.Endpoints()[0]
	lesson := start(t, endpoint, nil, "06-watch", "-for", "15s")
	lesson.await(t, "DELETE")
	if err := lesson.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := etcd.Members[0].Restart(soon(t)); err != nil {
		t.Fatal(err)
	}
	client := connect(t, endpoint)
	for range 2 {
		put, err := client.Put(soon(t), "/cron/jobs/watch/mine", "missed")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Compact(soon(t), put.Header.Revision); err != nil {
			t.Fatal(err)
		}
	}
	if err := lesson.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	lesson.await(t, "the history was compacted")
	lesson.await(t, "1 keys")
	if _, err := client.Put(soon(t), "/cron/jobs/watch/mine", "seen"); err != nil {
		t.Fatal(err)
	}
	lesson.await(t, `-> "seen"`)
	leave()
	if got := lesson.wait(t); got.status != 0 || got.stderr != "" {
		t.Errorf("status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
}

// TestCtrlC interrupts each lesson that waits: it ends soon, with at most one
// line, and leaves no lease.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	for lesson, sign := range map[string]string{
		"05-lease":    "granted",
		"06-watch":    "PUT",
		"08-txn-lock": "has the lock",
	} {
		t.Run(lesson, func(t *testing.T) {
			parallel(t)
			endpoint := startEtcd(t, cluster.Config{}).Endpoints()[0]
			p := start(t, endpoint, nil, lesson)
			p.await(t, sign)
			if err := p.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			interrupted := time.Now()
			got := p.wait(t)
			if took := time.Since(interrupted); took > 6*time.Second {
				t.Errorf("it took %v to end", took)
			}
			if got.status > 1 || strings.Count(got.stderr, "\n") > 1 {
				t.Errorf("status %d\n%s", got.status, got.stderr)
			}
			noLeases(t, connect(t, endpoint))
		})
	}
}
