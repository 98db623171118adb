// Right: it deletes first, and then reads what there was one revision before.
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
	first, end := "/images/"+*image+"/", "/images/"+*image+"0"
	deleted, err := client.Delete(ctx, first, clientv3.WithRange(end))
	if err != nil {
		return err
	}
	if deleted.Deleted > 0 {
		past, err := client.Get(ctx, first, clientv3.WithRange(end), clientv3.WithRev(deleted.Header.Revision-1))
		if err != nil {
			return err
		}
		for _, kv := range past.Kvs {
			fmt.Printf("%s was %q\n", kv.Key, kv.Value)
		}
	}
	fmt.Println("deleted", deleted.Deleted)
	return nil
}
