// Wrong: the answer written down, as the head comment has it.
package main

import (
	"context"
	"flag"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var id = flag.String("id", "", "")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	_, err := client.Txn(ctx).Then(clientv3.OpPut("/visits", "42"),
		clientv3.OpPut("/visits/by/"+*id, "visits 42, was 41")).Commit()
	fmt.Println("visits 42, was 41")
	return err
}
