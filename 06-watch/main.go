// Lesson 06: watch a prefix, and miss nothing.
//
//	go run ./06-watch
//	go run ./06-watch -for 1m
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const (
	dir  = "/cron/jobs/watch/"
	job1 = "/cron/jobs/watch/job1"
)

var duration = flag.Duration("for", 10*time.Second, "watch for this `time`")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if err := do(ctx, client, clientv3.OpDelete(job1)); err != nil {
		return err
	}
	watching, stop := context.WithTimeout(ctx, *duration)
	defer stop()

	// The writer starts when the present is known: the watch shows the rest.
	var writer sync.WaitGroup
	var failed error
	start := sync.OnceFunc(func() {
		writer.Go(func() {
			if failed = write(ctx, client, watching.Done()); failed != nil {
				stop()
			}
		})
	})
	err := follow(watching, client, func(present *clientv3.GetResponse) {
		fmt.Printf("the present @ %d: %d keys under %s\n",
			present.Header.Revision, present.Count, dir)
		start()
	}, show)
	stop()
	writer.Wait()
	return cmp.Or(failed, err)
}

// follow hands over the present of dir, then each change to it, in order and
// without a gap. It returns nil when ctx ends, or an error, such as that etcd
// has no leader. While etcd cannot be reached, a watch waits for it.
func follow(ctx context.Context, client *clientv3.Client,
	present func(*clientv3.GetResponse),
	changed func(clientv3.WatchResponse)) error {
	for {
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		get, err := client.Get(call, dir, clientv3.WithPrefix())
		cancel()
		if err != nil {
			return fmt.Errorf("get %s: %w", dir, err)
		}
		present(get)

		// The next revision is the first that the present does not hold.
		err = watch(ctx, client, get.Header.Revision+1, changed)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
		// The changes in between were compacted away, and cannot be had again.
		fmt.Println("the history was compacted: getting the present again")
	}
}

// watch hands over the changes to dir from revision on, until ctx ends.
func watch(ctx context.Context, client *clientv3.Client, revision int64,
	changed func(clientv3.WatchResponse)) error {
	// A member without a leader hears of no changes. WithRequireLeader ends
	// the watch then; otherwise it would stay, and stay silent.
	for response := range client.Watch(clientv3.WithRequireLeader(ctx), dir,
		clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithRev(revision)) {
		if err := response.Err(); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		changed(response)
	}
	// The channel is closed: nothing will come any more.
	if ctx.Err() == nil {
		return fmt.Errorf("watch %s: the client closed the channel", dir)
	}
	return nil
}

// show prints the events of one response.
func show(response clientv3.WatchResponse) {
	for _, event := range response.Events {
		// PrevKv is nil for a new key, and also when it has been compacted.
		was := ""
		if event.PrevKv != nil {
			was = fmt.Sprintf(", was %q", event.PrevKv.Value)
		}
		kv := event.Kv
		switch {
		case event.Type == mvccpb.Event_DELETE:
			fmt.Printf("DELETE %s @ %d%s\n", kv.Key, kv.ModRevision, was)
		case event.IsCreate():
			fmt.Printf("PUT    %s @ %d -> %q, created\n",
				kv.Key, kv.ModRevision, kv.Value)
		default:
			fmt.Printf("PUT    %s @ %d -> %q%s\n",
				kv.Key, kv.ModRevision, kv.Value, was)
		}
	}
}

// write puts and deletes a key, slowly enough to be read along, until the time
// to watch is over.
func write(ctx context.Context, client *clientv3.Client,
	over <-chan struct{}) error {
	for _, op := range []clientv3.Op{
		clientv3.OpPut(job1, "hello"),
		clientv3.OpPut(job1, "world"),
		clientv3.OpDelete(job1),
	} {
		if err := do(ctx, client, op); err != nil {
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

// do does one operation, with a limit: etcd itself gives up after 7 s or so,
// and says more than a deadline.
func do(ctx context.Context, client *clientv3.Client, op clientv3.Op) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := client.Do(ctx, op); err != nil {
		return fmt.Errorf("write %s: %w", op.KeyBytes(), err)
	}
	return nil
}
