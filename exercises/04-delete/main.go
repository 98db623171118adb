// Exercise 04: delete an image, and say what was deleted.
//
//	go run ./exercises/04-delete -image cirros
//
// The keys of the image NAME are those under /images/NAME/. It deletes them,
// all in one revision, and no others. It prints one line for each key that it
// has deleted, in their order, with the value that the key had, and then their
// number:
//
//	/images/cirros/kernel was "v5"
//	/images/cirros/size was "12 MiB"
//	deleted 2
//
// An image that is not there is no error: it prints "deleted 0". Without a name
// nothing is deleted, and the status is 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var image = flag.String("image", "", "the `name` of the image to delete")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// What is deleted cannot be read any more, so it is read before.
	prefix := "/images/" + *image
	get, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("get %s: %w", prefix, err)
	}
	for _, kv := range get.Kvs {
		fmt.Printf("%s was %q\n", kv.Key, kv.Value)
	}
	_, err = client.Delete(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("delete %s: %w", prefix, err)
	}
	fmt.Println("deleted", get.Count)
	return nil
}
