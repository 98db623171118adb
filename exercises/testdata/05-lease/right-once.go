// Right: it renews by hand, twice in a TTL, and registers again when that fails.
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
	name    = flag.String("name", "web", "")
	address = flag.String("address", "10.0.0.1:80", "")
	ttl     = flag.Int64("ttl", 3, "")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *name == "" || *ttl < 1 {
		return errors.New("no -name or no -ttl")
	}
	lease := clientv3.NoLease
	defer func() {
		if lease != clientv3.NoLease {
			call, done := context.WithTimeout(context.Background(), 2*time.Second)
			defer done()
			client.Revoke(call, lease)
		}
	}()
	for ctx.Err() == nil {
		call, done := context.WithTimeout(context.Background(), 700*time.Millisecond)
		pause := 700 * time.Millisecond
		if lease == clientv3.NoLease {
			if answer, err := client.Grant(call, *ttl); err == nil {
				lease = answer.ID
				_, err = client.Put(call, "/services/api/"+*name, *address, clientv3.WithLease(lease))
				if err != nil {
					fmt.Println(err)
					client.Revoke(call, lease)
					lease, pause = clientv3.NoLease, 100*time.Millisecond
				}
			}
		} else if _, err := client.KeepAliveOnce(call, lease); err != nil {
			fmt.Println(err)
			// It may have been too slow, and the lease may live.
			last, over := context.WithTimeout(context.Background(), time.Second)
			client.Revoke(last, lease)
			over()
			lease, pause = clientv3.NoLease, 10*time.Millisecond
		}
		done()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}
