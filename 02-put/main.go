// Lesson 02: put a value, and see what etcd counts.
//
//	go run ./02-put
package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const key = "/cron/jobs/put/job1"

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	if _, err := client.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}

	fmt.Println("The first put creates the key:")
	if err := change(ctx, client, "hello"); err != nil {
		return err
	}
	fmt.Println("The second replaces its value:")
	if err := change(ctx, client, "world"); err != nil {
		return err
	}
	fmt.Println("The same value again is a change all the same:")
	return change(ctx, client, "world")
}

// change puts value and shows what it replaced and what etcd counted.
func change(ctx context.Context, client *clientv3.Client, value string) error {
	put, err := client.Put(ctx, key, value, clientv3.WithPrevKV())
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	revision := put.Header.Revision
	fmt.Printf("  %s @ %d -> %q\n", key, revision, value)

	// PrevKv is nil when there was no key before, also with WithPrevKV.
	if previous := put.PrevKv; previous != nil {
		fmt.Printf("  replaced   %q @ %d\n",
			previous.Value, previous.ModRevision)
	} else {
		fmt.Println("  replaced   nothing")
	}

	// The answer to a put holds no counters. Reading at the put's own revision
	// shows what this put made, whoever has written since.
	get, err := client.Get(ctx, key, clientv3.WithRev(revision))
	if err != nil {
		return fmt.Errorf("get %s at revision %d: %w", key, revision, err)
	}
	for _, kv := range get.Kvs {
		fmt.Printf("  created @ %d, modified @ %d, version %d\n",
			kv.CreateRevision, kv.ModRevision, kv.Version)
	}
	return nil
}
