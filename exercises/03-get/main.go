// Exercise 03: list many jobs, as they are at one moment.
//
//	go run ./exercises/03-get
//
// It prints all jobs, the keys under /cron/jobs/, in their order: first a line
// with their number and the revision, then one line for each, with its name and
// its value:
//
//	2 jobs at revision 7
//	job1 -> "run daily"
//	job2 -> "run weekly"
//
// The list is what the store held at that revision, which is one of those that
// it had while the program ran. There may be a thousand jobs and more, and
// others change them in the meantime, or compact the history. So that etcd is
// not kept busy, no answer holds more than 100 keys.
package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const dir = "/cron/jobs/"

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	jobs, revision, err := list(ctx, client)
	if err != nil {
		return err
	}
	fmt.Printf("%d jobs at revision %d\n", len(jobs), revision)
	for _, kv := range jobs {
		name := strings.TrimPrefix(string(kv.Key), dir)
		fmt.Printf("%s -> %q\n", name, kv.Value)
	}
	return nil
}

// list reads page after page.
func list(ctx context.Context, client *clientv3.Client) (
	[]*mvccpb.KeyValue, int64, error) {
	var jobs []*mvccpb.KeyValue
	revision := int64(0)
	for key := dir; ; {
		get, err := client.Get(ctx, key, clientv3.WithLimit(100),
			clientv3.WithRange(clientv3.GetPrefixRangeEnd(dir)))
		if err != nil {
			return nil, 0, fmt.Errorf("get %s: %w", key, err)
		}
		jobs = append(jobs, get.Kvs...)
		revision = get.Header.Revision
		if !get.More {
			return jobs, revision, nil
		}
		// The next page begins with the first key after the last of this one.
		key = string(jobs[len(jobs)-1].Key) + "\x00"
	}
}
