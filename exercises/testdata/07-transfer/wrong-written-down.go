// Wrong: the answer written down, for the example of the head comment.
package main

import (
	"context"
	"flag"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

func main() {
	for _, name := range []string{"id", "from", "to", "amount"} {
		flag.String(name, "", "")
	}
	shared.Main(run)
}

func run(ctx context.Context, client *clientv3.Client) error {
	_, err := client.Txn(ctx).Then(
		clientv3.OpPut("/bank/accounts/alice", "90"),
		clientv3.OpPut("/bank/accounts/bob", "110"),
		clientv3.OpPut("/bank/transfers/t1", "10 from alice to bob"),
	).Commit()
	return err
}
