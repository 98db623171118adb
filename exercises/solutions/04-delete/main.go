// Solution 04: delete an image, and say what was deleted.
//
//	go run ./exercises/solutions/04-delete -image cirros
//
// Only the delete itself knows what it deletes: a key may come, go or change
// between a get and the delete. WithPrevKV has it tell. One delete for each key
// would take several revisions, and miss the key that has just come.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var image = flag.String("image", "", "the `name` of the image to delete")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	// An empty name is mostly a variable that was not set.
	if *image == "" || strings.Contains(*image, "/") {
		return errors.New("want an -image, a name without a slash")
	}
	// A call without a deadline may wait for ever.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// Without the slash at the end it would delete cirros2 as well.
	prefix := "/images/" + *image + "/"
	deleted, err := client.Delete(ctx, prefix,
		clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil {
		return fmt.Errorf("delete %s: %w", prefix, err)
	}
	for _, kv := range deleted.PrevKvs {
		fmt.Printf("%s was %q\n", kv.Key, kv.Value)
	}
	fmt.Println("deleted", deleted.Deleted)
	return nil
}
