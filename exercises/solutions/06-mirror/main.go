// Solution 06: a mirror of the jobs.
//
//	go run ./exercises/solutions/06-mirror
//
// A deletion that was compacted is told by no event, however soon the watch
// goes on. Only the present can tell it: by what is not there any more. So the
// mirror reads the present again, and forgets all that it has kept. To put what
// it reads into the jobs that it has would keep those that are gone.
//
// The revision comes from the answer's header. That of the newest job would not
// do: a deletion is newer than all jobs that are left.
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
	var jobs map[string]string
	next := int64(0) // the first revision to print; 0 for the present
	for {
		var err error
		if next == 0 {
			jobs = map[string]string{}
			next, err = read(ctx, client, jobs)
		} else {
			next, err = watch(ctx, client, next, jobs)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			continue // Now watch, or watch on.
		case errors.Is(err, rpctypes.ErrCompacted):
			fmt.Fprintln(os.Stderr, "compacted: reading the present again")
			next = 0
		case errors.Is(err, rpctypes.ErrNoLeader):
			time.Sleep(500 * time.Millisecond)
		default:
			return err
		}
	}
}

// read prints the jobs that there are, and returns the revision after them.
func read(ctx context.Context, client *clientv3.Client,
	jobs map[string]string) (int64, error) {
	ctx, cancel := context.WithTimeout(
		clientv3.WithRequireLeader(ctx), 20*time.Second)
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
			return next, fmt.Errorf("watch %s: %w", dir, err)
		}
		for i, event := range response.Events {
			job := strings.TrimPrefix(string(event.Kv.Key), dir)
			if event.Type == clientv3.EventTypeDelete {
				delete(jobs, job)
			} else {
				jobs[job] = string(event.Kv.Value)
			}
			// A response may bring many revisions, and a revision may change
			// several jobs. The last of them prints it: no line is of a moment
			// that never was.
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
