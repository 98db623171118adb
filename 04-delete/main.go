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

	err := remove(ctx, client, "One key", dir+"job1")
	if err != nil {
		return err
	}
	err = remove(ctx, client, "One key, WithPrevKV", dir+"job2",
		clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	err = remove(ctx, client, "The same key again", dir+"job2")
	if err != nil {
		return err
	}

	// The slash at the end keeps the neighbours safe: the prefix
	// /cron/jobs/delete would match /cron/jobs/delete-me-not as well.
	return remove(ctx, client, "A prefix", dir,
		clientv3.WithPrefix(), clientv3.WithPrevKV())
}

// remove deletes key with the options and prints what the answer holds.
func remove(ctx context.Context, client *clientv3.Client, title, key string,
	options ...clientv3.OpOption) error {
	deleted, err := client.Delete(ctx, key, options...)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	// Deleted is the count. PrevKvs is empty unless WithPrevKV asked for it, so
	// its length says nothing about what was deleted.
	fmt.Printf("%s: deleted %d, previous values %d, revision %d\n", title,
		deleted.Deleted, len(deleted.PrevKvs), deleted.Header.Revision)
	for _, kv := range deleted.PrevKvs {
		fmt.Printf("  %s @ %d was %q\n", kv.Key, kv.ModRevision, kv.Value)
	}
	return nil
}
