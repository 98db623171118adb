// Exercise 06: a mirror of the jobs.
//
//	go run ./exercises/06-mirror
//
// It prints all jobs as one line of JSON: those that there are when it starts,
// and then those after each revision that changes a key under /cron/jobs/,
// until Ctrl-C.
//
//	{"revision":7,"jobs":{"job1":"run daily"}}
//
// The jobs are those of that revision, their names without the prefix. The
// revisions grow from line to line, and none is left out, also when the
// connection breaks. Only when the history was compacted meanwhile, it goes on
// with the present. A line that does not begin with { is for people.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const dir = "/cron/jobs/"

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	jobs := map[string]string{}
	next, err := read(ctx, client, jobs)
	for ctx.Err() == nil {
		switch {
		case errors.Is(err, rpctypes.ErrCompacted):
			fmt.Fprintln(os.Stderr, "compacted: going on at revision", next)
		case errors.Is(err, rpctypes.ErrNoLeader):
			time.Sleep(500 * time.Millisecond)
		case err != nil:
			return err
		}
		next, err = watch(ctx, client, next, jobs)
	}
	return nil
}

// read prints the jobs that there are, and returns the revision after them.
func read(ctx context.Context, client *clientv3.Client,
	jobs map[string]string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	get, err := client.Get(ctx, dir, clientv3.WithPrefix())
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", dir, err)
	}
	for _, kv := range get.Kvs {
		jobs[strings.TrimPrefix(string(kv.Key), dir)] = string(kv.Value)
	}
	show(get.Header.Revision, jobs)
	return get.Header.Revision + 1, nil
}

// watch follows the changes from revision next on. When it ends, it returns the
// revision at which the next watch has to begin, and why it ended.
func watch(ctx context.Context, client *clientv3.Client, next int64,
	jobs map[string]string) (int64, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for response := range client.Watch(ctx, dir, clientv3.WithPrefix(),
		clientv3.WithRev(next)) {
		if err := response.Err(); err != nil {
			// What was compacted never comes. etcd says where it can go on.
			next = max(next, response.CompactRevision)
			return next, fmt.Errorf("watch %s: %w", dir, err)
		}
		for i, event := range response.Events {
			job := strings.TrimPrefix(string(event.Kv.Key), dir)
			if event.Type == clientv3.EventTypeDelete {
				delete(jobs, job)
			} else {
				jobs[job] = string(event.Kv.Value)
			}
			// A revision may change several jobs. The last of them prints it.
			next = event.Kv.ModRevision + 1
			rest := response.Events[i+1:]
			if len(rest) == 0 || rest[0].Kv.ModRevision >= next {
				show(next-1, jobs)
			}
		}
	}
	return next, client.Ctx().Err()
}

// show prints the jobs as they are at a revision.
func show(revision int64, jobs map[string]string) {
	line, _ := json.Marshal(jobs) // It cannot fail: there are only strings.
	fmt.Printf("{\"revision\":%d,\"jobs\":%s}\n", revision, line)
}
