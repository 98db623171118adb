// Right: a session of the client's package concurrency is a lease that is kept
// alive; when it is done, the next one begins.
package main

import (
	"context"
	"flag"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"example.com/etcd-by-example/shared"
)

var (
	name    = flag.String("name", "web", "")
	address = flag.String("address", "10.0.0.1:80", "")
	ttl     = flag.Int64("ttl", 3, "")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	for ctx.Err() == nil {
		if err := serve(ctx, client); err != nil {
			log.Print(err)
			time.Sleep(200 * time.Millisecond)
		}
	}
	return nil
}

func serve(ctx context.Context, client *clientv3.Client) error {
	call, done := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer done()
	lease, err := client.Grant(call, *ttl)
	if err != nil {
		return err
	}
	session, err := concurrency.NewSession(client, concurrency.WithLease(lease.ID), concurrency.WithTTL(int(*ttl)))
	if err != nil {
		return err
	}
	defer session.Close()
	_, err = client.Put(call, "/services/api/"+*name, *address, clientv3.WithLease(session.Lease()))
	if err != nil {
		return err
	}
	select {
	case <-session.Done():
	case <-ctx.Done():
	}
	return nil
}
