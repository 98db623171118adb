// Wrong: the key written down once, without a lease, and deleted at the end.
package main

import (
	"context"
	"flag"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var (
	name    = flag.String("name", "web", "")
	address = flag.String("address", "10.0.0.1:80", "")
	_       = flag.Int64("ttl", 3, "")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	client.Put(ctx, "/services/api/"+*name, *address)
	<-ctx.Done()
	client.Delete(context.Background(), "/services/api/"+*name)
	return nil
}
