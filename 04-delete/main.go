// Lesson 04: delete one key, or all keys with a prefix.
//
//	go run ./04-delete
package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const dir = "/cron/jobs/delete/"

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	for _, name := range []string{"job1", "job2", "job3", "job4"} {
		put, err := client.Put(ctx, dir+name, "run "+name)
		if err != nil {
			return fmt.Errorf("put %s: %w", dir+name, err)
		}
		fmt.Printf("%s @ %d\n", dir+name, put.Header.Revision)
	}

	fmt.Println("One key: the answer counts it, and holds no more:")
	if err := remove(ctx, client, dir+"job1"); err != nil {
		return err
	}
	fmt.Println("With WithPrevKV the answer holds what was deleted:")
	err := remove(ctx, client, dir+"job2", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	fmt.Println("A key that is gone is no error, and no new revision:")
	if err := remove(ctx, client, dir+"job2"); err != nil {
		return err
	}

	// The slash at the end keeps the neighbours safe: the prefix
	// /cron/jobs/delete would match /cron/jobs/delete-me-not as well.
	fmt.Println("A prefix: all its keys go in one revision:")
	return remove(ctx, client, dir,
		clientv3.WithPrefix(), clientv3.WithPrevKV())
}

// remove deletes key with the options and prints what the answer holds.
func remove(ctx context.Context, client *clientv3.Client, key string,
	options ...clientv3.OpOption) error {
	deleted, err := client.Delete(ctx, key, options...)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	// Deleted is the count. PrevKvs is empty unless WithPrevKV asked for it, so
	// its length says nothing about what was deleted.
	fmt.Printf("  delete %s: deleted %d, previous values %d, revision %d\n",
		key, deleted.Deleted, len(deleted.PrevKvs), deleted.Header.Revision)
	for _, kv := range deleted.PrevKvs {
		fmt.Printf("  %s @ %d was %q\n", kv.Key, kv.ModRevision, kv.Value)
	}
	return nil
}
