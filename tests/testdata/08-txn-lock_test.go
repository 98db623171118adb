package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	kinds := map[string]func(context.Context, *clientv3.Client) error{
		"lesson": lessonCycle, "bare": bareCycle, "concurrency": concurrencyCycle,
	}
	times := map[string][]time.Duration{}
	for range cycles {
		for _, i := range rand.Perm(3) {
			name := []string{"lesson", "bare", "concurrency"}[i]
			start := time.Now()
			if err := kinds[name](t.Context(), client); err != nil {
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
	var tokens []int64
	for range 2 {
		job := lock{key: lockKey, owner: "somebody", ttl: 60}
		_, token, release, err := job.acquire(t.Context(), client, false)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		tokens = append(tokens, token)
		if len(tokens) == 2 {
			break
		}
		_, _, _, err = job.acquire(t.Context(), client, false)
		held, ok := errors.AsType[heldError](err)
		if !ok || string(held.key.Value) != "somebody" || held.key.CreateRevision != token {
			t.Errorf("a lock that is held with token %d: %v", token, err)
		}
		get, err := client.Get(t.Context(), lockKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Revoke(t.Context(), clientv3.LeaseID(get.Kvs[0].Lease)); err != nil {
			t.Fatal(err)
		}
	}
	if tokens[0] >= tokens[1] {
		t.Errorf("the tokens do not grow: %v", tokens)
	}
	if err := finish(t.Context(), client, tokens[0], "first", true); err == nil {
		t.Error("a write with a stale token is accepted")
	} else if !strings.Contains(err.Error(), "stale") {
		t.Errorf("the error is %v", err)
	}
	if err := finish(t.Context(), client, tokens[1], "second", true); err != nil {
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

// contenders is how many want the lock at a time, each with a client of its own.
const contenders = 32

// TestLockContended prints how often in a second the contenders get and release the
// lock: with the lesson's functions, and with the package concurrency, in turns.
func TestLockContended(t *testing.T) {
	var clients []*clientv3.Client
	for range contenders {
		client, err := shared.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		clients = append(clients, client)
	}
	const rounds, span = 3, 3 * time.Second
	rates := map[string]float64{}
	for range rounds {
		for name, cycle := range map[string]func(context.Context, *clientv3.Client) error{
			"lesson": lessonCycle, "concurrency": concurrencyCycle} {
			var done atomic.Int64
			var contending sync.WaitGroup
			start := time.Now()
			for _, client := range clients {
				contending.Go(func() {
					for time.Since(start) < span {
						if err := cycle(t.Context(), client); err != nil {
							t.Errorf("%s: %v", name, err)
							return
						}
						done.Add(1)
					}
				})
			}
			contending.Wait()
			rates[name] += float64(done.Load()) / time.Since(start).Seconds() / rounds
		}
	}
	line, err := json.Marshal(rates)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(string(line))
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
