package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"

	"example.com/etcd-by-example/shared"
)

// cycles is how often each kind of cycle is measured.
const cycles = 400

// TestLockCycle prints the median times, in nanoseconds, of a lock and unlock:
// with the lesson's functions, with its three calls alone, and with the
// package concurrency. The three take turns, so that they meet the same noise.
func TestLockCycle(t *testing.T) {
	client, err := shared.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	times := map[string][]time.Duration{}
	for range cycles {
		for name, cycle := range map[string]func(context.Context, *clientv3.Client) error{
			"lesson": lessonCycle, "bare": bareCycle, "concurrency": concurrencyCycle,
		} {
			start := time.Now()
			if err := cycle(t.Context(), client); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			times[name] = append(times[name], time.Since(start))
		}
	}
	medians := map[string]time.Duration{}
	for name, all := range times {
		slices.Sort(all)
		medians[name] = all[len(all)/2]
	}
	line, err := json.Marshal(medians)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(string(line))
}

// TestStaleToken takes the lock, loses it unnoticed to another holder, and tries
// to write with the old token.
func TestStaleToken(t *testing.T) {
	client, err := shared.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	job := lock{key: lockKey, owner: "somebody", ttl: 60}
	_, first, release, err := job.acquire(t.Context(), client, false)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, _, _, err = job.acquire(t.Context(), client, false)
	held, ok := errors.AsType[heldError](err)
	if !ok || string(held.key.Value) != "somebody" || held.key.CreateRevision != first {
		t.Fatalf("a lock that is held with token %d: %v", first, err)
	}
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(held.key.Lease)); err != nil {
		t.Fatal(err)
	}
	_, second, release, err := job.acquire(t.Context(), client, false)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if first >= second {
		t.Errorf("the tokens do not grow: %d, %d", first, second)
	}
	if err := finish(t.Context(), client, first, "first", true); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("a write with a stale token: %v", err)
	}
	if err := finish(t.Context(), client, second, "second", true); err != nil {
		t.Errorf("the holder's write is refused: %v", err)
	}
}

// TestWaitMissesNoRelease frees the lock in the instant between the transaction that
// found it held and the watch that waits for it.
func TestWaitMissesNoRelease(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	other, err := shared.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	job := lock{key: lockKey, owner: "somebody", ttl: 60}
	_, _, release, err := job.acquire(ctx, other, false)
	if err != nil {
		t.Fatal(err)
	}
	free := sync.OnceFunc(release)
	defer free()
	config, err := shared.Config()
	if err != nil {
		t.Fatal(err)
	}
	config.DialOptions = []grpc.DialOption{grpc.WithChainStreamInterceptor(
		func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
			open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			if method == pb.Watch_Watch_FullMethodName {
				free()
			}
			return open(ctx, desc, conn, method, options...)
		})}
	client, err := clientv3.New(*config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, _, release, err = job.acquire(ctx, client, true)
	if err != nil {
		t.Fatalf("a lock that was freed: %v", err)
	}
	release()
}

// TestWaitWithExpiredToken waits for a lock, with a client that has watched for longer
// than its token is valid: each watch for the release is refused.
func TestWaitWithExpiredToken(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	client, err := shared.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	<-client.Watch(clientv3.WithRequireLeader(ctx), lockKey, clientv3.WithCreatedNotify())
	for {
		// A token that is used is prolonged: more often it must not be tried.
		refused, done := context.WithTimeout(clientv3.WithRequireLeader(ctx), 4*time.Second)
		response := <-client.Watch(refused, lockKey)
		done()
		if err := response.Err(); err != nil && strings.Contains(err.Error(), "invalid auth token") {
			break
		}
	}
	job := lock{key: lockKey, owner: "ann", ttl: 60}
	_, _, free, err := job.acquire(ctx, client, false)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ann has it")
	time.AfterFunc(3*time.Second, free)
	job.owner = "ben"
	_, _, release, err := job.acquire(ctx, client, true)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func lessonCycle(ctx context.Context, client *clientv3.Client) error {
	job := lock{key: lockKey, owner: *name, ttl: *ttl}
	_, _, release, err := job.acquire(ctx, client, true)
	if err != nil {
		return err
	}
	release()
	return nil
}

func bareCycle(ctx context.Context, client *clientv3.Client) error {
	lease, err := client.Grant(ctx, *ttl)
	if err != nil {
		return err
	}
	_, err = client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision("/cron/lock/bare"), "=", 0)).
		Then(clientv3.OpPut("/cron/lock/bare", *name, clientv3.WithLease(lease.ID))).
		Else(clientv3.OpGet("/cron/lock/bare")).
		Commit()
	if err != nil {
		return err
	}
	_, err = client.Revoke(ctx, lease.ID)
	return err
}

func concurrencyCycle(ctx context.Context, client *clientv3.Client) error {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(int(*ttl)))
	if err != nil {
		return err
	}
	mutex := concurrency.NewMutex(session, "/cron/lock/mutex")
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	if err := mutex.Unlock(ctx); err != nil {
		return err
	}
	return session.Close()
}
