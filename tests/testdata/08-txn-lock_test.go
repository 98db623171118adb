package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

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

func lessonCycle(ctx context.Context, client *clientv3.Client) error {
	job := lock{key: lockKey, owner: *name, ttl: *ttl}
	_, _, release, err := job.acquire(ctx, client, false)
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
