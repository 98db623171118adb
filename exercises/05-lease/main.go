// Exercise 05: a service that can be found for as long as it lives.
//
//	go run ./exercises/05-lease -name web -address 10.0.0.1:80
//
// The key /services/api/NAME holds the address, with a lease: it goes by itself
// when the program dies. While the program lives, the key is there. If it goes
// all the same, because the lease was lost, or etcd was out of reach, or the
// program slept, it is back within 3 s from when etcd can be reached again. The
// key is never there without a lease.
//
// After Ctrl-C the key is gone before the program ends, with status 0, unless a
// successor has put it again in the meantime: that one's stays. No lease is
// left.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var (
	name    = flag.String("name", "web", "the `name` of the service")
	address = flag.String("address", "10.0.0.1:80", "where it `listens`")
	ttl     = flag.Int64("ttl", 3, "time to live of the lease, in `seconds`")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *name == "" || *ttl < 1 {
		return errors.New("want a -name and a -ttl above 0")
	}
	lease, err := register(ctx, client)
	if err != nil {
		return err
	}
	renewals, err := client.KeepAlive(ctx, lease)
	if err != nil {
		revoke(ctx, client, lease)
		return fmt.Errorf("keep the lease alive: %w", err)
	}
	// The answers have to be received for as long as the program lives.
	go func() {
		for range renewals {
		}
		fmt.Println("the lease is not kept alive any more")
	}()

	// This is where the service would do its work.
	<-ctx.Done()
	return revoke(ctx, client, lease)
}

// register puts the key with a lease of its own.
func register(ctx context.Context, client *clientv3.Client) (
	clientv3.LeaseID, error) {
	// Ctrl-C does not cut Grant short: nobody could revoke a lease whose ID
	// never came.
	call, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	lease, err := client.Grant(call, *ttl)
	if err != nil {
		return 0, fmt.Errorf("grant a lease: %w", err)
	}
	key := "/services/api/" + *name
	_, err = client.Put(call, key, *address, clientv3.WithLease(lease.ID))
	if err != nil {
		revoke(ctx, client, lease.ID)
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	fmt.Printf("%s -> %q, lease %016x\n", key, *address, lease.ID)
	return lease.ID, nil
}

// revoke ends the lease, and deletes the keys that it has then.
func revoke(ctx context.Context, client *clientv3.Client,
	lease clientv3.LeaseID) error {
	call, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if _, err := client.Revoke(call, lease); err != nil {
		return fmt.Errorf("revoke the lease: %w", err)
	}
	return nil
}
