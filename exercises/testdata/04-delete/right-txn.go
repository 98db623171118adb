// Right: the get and the delete are one transaction, so nothing comes in between.
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

var image = flag.String("image", "", "")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *image == "" {
		return errors.New("no -image")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	dir := "/images/" + *image + "/"
	txn, err := client.Txn(ctx).Then(
		clientv3.OpGet(dir, clientv3.WithPrefix()),
		clientv3.OpDelete(dir, clientv3.WithPrefix()),
	).Commit()
	if err != nil {
		return err
	}
	get := txn.Responses[0].GetResponseRange()
	for _, kv := range get.Kvs {
		fmt.Printf("%s was %q\n", kv.Key, kv.Value)
	}
	fmt.Printf("deleted %d\n", get.Count)
	return nil
}
