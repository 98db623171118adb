// Lesson 05: a lease gives keys a time to live, and keep-alive extends it.
//
//	go run ./05-lease
//	go run ./05-lease -ttl 10
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const key = "/cron/jobs/lease/job1"

var ttl = flag.Int64("ttl", 3, "time to live of a lease, in `seconds`")

var errLost = errors.New("the lease is gone, or etcd is out of reach")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	fmt.Println("A lease that nobody renews:")
	if err := live(ctx, client, false); err != nil {
		return err
	}
	fmt.Println("A lease that is kept alive for a while:")
	return live(ctx, client, true)
}

// live puts the key with a lease of its own, and stays until both are gone.
func live(ctx context.Context, client *clientv3.Client,
	renew bool) (err error) {
	limit := 10*time.Second + 4*time.Duration(min(*ttl, 3600))*time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	// Ctrl-C does not cut this call short: nobody could revoke a lease whose ID
	// never came. The server may grant more than was asked for: its smallest
	// TTL is 1.5 times its election timeout.
	call, done := context.WithTimeout(
		context.WithoutCancel(ctx), 10*time.Second)
	defer done()
	lease, err := client.Grant(call, *ttl)
	if err != nil {
		return fmt.Errorf("grant a lease of %d s: %w", *ttl, err)
	}
	// Whatever happened, revoke; report what failed first.
	defer func() { err = cmp.Or(err, revoke(ctx, client, lease.ID)) }()
	fmt.Printf("  lease %016x: asked for %d s, granted %d s\n",
		lease.ID, *ttl, lease.TTL)

	_, err = client.Put(ctx, key, "running", clientv3.WithLease(lease.ID))
	if err != nil {
		return fmt.Errorf("put %s with the lease: %w", key, err)
	}
	if renew {
		if err := keepAlive(ctx, client, lease); err != nil {
			return err
		}
	}
	return expire(ctx, client, lease.ID)
}

// keepAlive renews the lease until it is older than the time it was granted.
func keepAlive(ctx context.Context, client *clientv3.Client,
	lease *clientv3.LeaseGrantResponse) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return fmt.Errorf("keep %s alive: %w", key, err)
	}
	// The client sends a renewal every third of the TTL; the answers must be
	// received. A closed channel, so a nil answer, means that none will follow.
	older := time.After(time.Duration(lease.TTL+1) * time.Second)
	for answers := 0; ; answers++ {
		select {
		case answer := <-renewals:
			if answer == nil {
				return fmt.Errorf("keep %s alive: %w",
					key, cmp.Or(ctx.Err(), errLost))
			}
		case <-older:
			fmt.Printf("  after %d s and %d renewals:\n", lease.TTL+1, answers)
			return show(ctx, client)
		}
	}
}

// expire counts down the lease's time to live until etcd no longer knows it.
func expire(ctx context.Context, client *clientv3.Client,
	id clientv3.LeaseID) error {
	fmt.Print("  seconds left:")
	for last := int64(-1); ; {
		left, err := client.TimeToLive(ctx, id)
		if err != nil {
			fmt.Println()
			return fmt.Errorf("get the time to live of %s: %w", key, err)
		}
		if left.TTL < 0 {
			fmt.Println(", gone")
			return show(ctx, client)
		}
		if left.TTL != last {
			fmt.Print(" ", left.TTL)
			last = left.TTL
		}
		select {
		case <-ctx.Done():
			fmt.Println()
			return fmt.Errorf("wait until %s is gone: %w", key, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// show prints whether the key is there.
func show(ctx context.Context, client *clientv3.Client) error {
	get, err := client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	fmt.Printf("  %s: count %d\n", key, get.Count)
	return nil
}

// revoke ends the lease and deletes its key now, and not only after the TTL.
// It also has to after a Ctrl-C, when ctx is over.
func revoke(ctx context.Context, client *clientv3.Client,
	id clientv3.LeaseID) error {
	ctx = context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := client.Revoke(ctx, id)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke the lease of %s: %w", key, err)
	}
	return nil
}
