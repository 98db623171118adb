// Solution 05: a service that can be found for as long as it lives.
//
//	go run ./exercises/solutions/05-lease -name web -address 10.0.0.1:80
//
// When the answers to the renewals end, the lease is lost, or may be. To keep
// it alive again would not do: a lease that has ended does not come back, and
// its keys are gone. To put the key again would fail: that needs a lease. So
// all begins anew, and every call has a deadline, for an answer may be lost as
// well.
//
// At the end the lease is revoked, and the key is not deleted: a successor that
// has put it again has given it a lease of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
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
	for {
		err := stay(ctx, client)
		if ctx.Err() != nil {
			return err
		}
		fmt.Println("registering again:", err)
		time.Sleep(100 * time.Millisecond)
	}
}

// stay keeps the key there until ctx ends, or until the lease may be lost.
func stay(ctx context.Context, client *clientv3.Client) (err error) {
	// Ctrl-C does not cut Grant short: nobody could revoke a lease whose ID
	// never came. When an answer is lost, the next try must not come too late.
	call, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	lease, err := client.Grant(call, *ttl)
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	defer func() {
		if failed := revoke(ctx, client, lease.ID); failed != nil {
			err = failed
		}
	}()
	key := "/services/api/" + *name
	_, err = client.Put(call, key, *address, clientv3.WithLease(lease.ID))
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	fmt.Printf("%s -> %q, lease %016x\n", key, *address, lease.ID)

	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return fmt.Errorf("keep the lease alive: %w", err)
	}
	// This is where the service would do its work.
	for range renewals {
	}
	if ctx.Err() == nil {
		return errors.New("the lease is not kept alive any more")
	}
	return nil
}

// revoke ends the lease, and deletes the keys that it has then. When it has
// ended before, there is nothing to do.
func revoke(ctx context.Context, client *clientv3.Client,
	lease clientv3.LeaseID) error {
	call, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	_, err := client.Revoke(call, lease)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke the lease: %w", err)
	}
	return nil
}
