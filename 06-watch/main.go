// Lesson 06: watch a prefix, and miss nothing.
//
//	go run ./06-watch
//	go run ./06-watch -for 1m
//
// What to copy is in follow.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const dir = "/cron/jobs/watch/"
const job1 = dir + "job1"

var duration = flag.Duration("for", 10*time.Second, "watch for this `time`")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *duration <= 0 {
		return fmt.Errorf("-for %v: want a time above zero", *duration)
	}
	watching, stop := context.WithTimeout(ctx, *duration)
	defer stop()

	// However the two meet, the watch misses nothing of what the writer does.
	var writer sync.WaitGroup
	var failed error
	writer.Go(func() {
		failed = writeSlowly(ctx, client, watching.Done())
		if failed != nil {
			stop()
		}
	})
	err := follow(watching, client, dir, showPresent, show)
	stop()
	writer.Wait()
	if failed != nil {
		return failed
	}
	return err
}

// showPresent prints what there is when the watch begins.
func showPresent(get *clientv3.GetResponse) {
	fmt.Printf("the present @ %d: %d keys\n", get.Header.Revision, get.Count)
	for _, kv := range get.Kvs {
		fmt.Printf("  %s @ %d -> %q\n", kv.Key, kv.ModRevision, kv.Value)
	}
}

// show prints the events of one response. A DELETE has no value. PrevKv is nil
// for a new key, and also when the value before has been compacted.
func show(response clientv3.WatchResponse) {
	for _, event := range response.Events {
		kv := event.Kv
		fmt.Printf("%-6s %s @ %d -> %q",
			event.Type, kv.Key, kv.ModRevision, kv.Value)
		if event.PrevKv != nil {
			fmt.Printf(", was %q", event.PrevKv.Value)
		}
		fmt.Println()
	}
}

// writeSlowly changes a key once a second, until over is closed.
func writeSlowly(ctx context.Context, client *clientv3.Client,
	over <-chan struct{}) error {
	for _, op := range []clientv3.Op{
		clientv3.OpDelete(job1),
		clientv3.OpPut(job1, "hello"),
		clientv3.OpPut(job1, "world"),
		clientv3.OpDelete(job1),
	} {
		if err := write(ctx, client, op); err != nil {
			return err
		}
		select {
		case <-over:
			return nil
		case <-time.After(time.Second):
		}
	}
	return nil
}

// write sends one operation to etcd.
func write(ctx context.Context, client *clientv3.Client, op clientv3.Op) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := client.Do(ctx, op); err != nil {
		return fmt.Errorf("write %s: %w", op.KeyBytes(), err)
	}
	return nil
}
