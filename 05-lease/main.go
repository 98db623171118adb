// Lesson 05: a lease gives keys a time to live, and keep-alive extends it.
//
//	go run ./05-lease
//	go run ./05-lease -ttl 10
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const key = "/cron/jobs/lease/job1"

var ttl = flag.Int64("ttl", 3, "time to live of a lease, in `seconds`")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *ttl < 1 || *ttl > 3600 {
		return fmt.Errorf("-ttl %d: want 1 to 3600 seconds", *ttl)
	}
	// It takes two TTLs or so, and more if a new leader starts the TTL again.
	limit := time.Duration(10+4*(*ttl)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	fmt.Println("A lease that is kept alive:")
	lease, err := putWithLease(ctx, client, *ttl)
	if err != nil {
		return err
	}
	defer revoke(ctx, client, lease.ID)
	// The client renews every third of the TTL, until renewing ends: one second
	// after the time that was granted.
	renewing, stop := context.WithTimeout(
		ctx, time.Duration(lease.TTL+1)*time.Second)
	defer stop()
	renewals, err := client.KeepAlive(renewing, lease.ID)
	if err != nil {
		return fmt.Errorf("keep %s alive: %w", key, err)
	}
	// The channel brings an answer for each renewal, and is closed when no more
	// will come. Nothing else tells a program unasked that its lease is lost.
	count := 0
	for range renewals {
		count++
	}
	if renewing.Err() == nil || ctx.Err() != nil {
		return fmt.Errorf("keep %s alive: the renewals ended too early", key)
	}
	fmt.Printf("  %d renewals in %d s, then no more:\n", count, lease.TTL+1)

	// Nobody renews it any more, so it runs out.
	if err := countDown(ctx, client, lease.ID); err != nil {
		return err
	}

	// To revoke is how a program leaves: nobody has to wait for the TTL.
	fmt.Println("A lease that is revoked:")
	lease, err = putWithLease(ctx, client, *ttl)
	if err != nil {
		return err
	}
	if err := revoke(ctx, client, lease.ID); err != nil {
		return fmt.Errorf("revoke the lease of %s: %w", key, err)
	}
	return countDown(ctx, client, lease.ID)
}

// putWithLease puts the key with a lease of its own.
func putWithLease(ctx context.Context, client *clientv3.Client,
	ttl int64) (*clientv3.LeaseGrantResponse, error) {
	// Ctrl-C does not cut Grant short: nobody could revoke a lease whose ID
	// never came.
	call, done := context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)
	defer done()
	lease, err := client.Grant(call, ttl)
	if err != nil {
		return nil, fmt.Errorf("grant a lease of %d s: %w", ttl, err)
	}
	_, err = client.Put(ctx, key, "running", clientv3.WithLease(lease.ID))
	if err != nil {
		revoke(ctx, client, lease.ID)
		return nil, fmt.Errorf("put %s with the lease: %w", key, err)
	}
	// etcd has a smallest TTL, and may grant more than was asked for.
	fmt.Printf("  lease %016x, granted for %d s\n", lease.ID, lease.TTL)
	return lease, nil
}

// countDown prints the time and the keys of a lease until it is gone. That is
// no error: it has -1 of 0 seconds left then, and no keys.
func countDown(ctx context.Context, client *clientv3.Client,
	id clientv3.LeaseID) error {
	for {
		now, err := client.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		if err != nil {
			return fmt.Errorf("get the time to live of %s: %w", key, err)
		}
		fmt.Printf("  %d of %d s left: %s\n", now.TTL, now.GrantedTTL, now.Keys)
		if now.GrantedTTL == 0 {
			return nil
		}
		time.Sleep(time.Second)
	}
}

// revoke ends the lease and deletes its keys, also after Ctrl-C, when ctx is
// over. When it fails, the lease still ends after its TTL.
func revoke(ctx context.Context, client *clientv3.Client,
	id clientv3.LeaseID) error {
	call, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer done()
	_, err := client.Revoke(call, id)
	return err
}
