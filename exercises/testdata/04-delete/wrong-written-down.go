// Wrong: the answer written down.
package main

import (
	"context"
	"flag"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var _ = flag.String("image", "", "")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	fmt.Println(`/images/cirros/kernel was "v5"`)
	fmt.Println(`/images/cirros/size was "12 MiB"`)
	fmt.Println("deleted 2")
	_, err := client.Txn(ctx).Then(clientv3.OpDelete("/images/cirros/kernel"),
		clientv3.OpDelete("/images/cirros/size")).Commit()
	return err
}
