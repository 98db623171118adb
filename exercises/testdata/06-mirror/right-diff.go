// Right: after a compaction it compares the present with the jobs that it has,
// and drops those that are gone, instead of beginning with an empty map.
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

type line struct {
	Revision int64             `json:"revision"`
	Jobs     map[string]string `json:"jobs"`
}

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	jobs := map[string]string{}
	next, err := load(ctx, client, jobs)
	for err == nil {
		next, err = follow(ctx, client, next, jobs)
		if errors.Is(err, rpctypes.ErrCompacted) {
			next, err = load(ctx, client, jobs)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func load(ctx context.Context, client *clientv3.Client, jobs map[string]string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	get, err := client.Get(ctx, dir, clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	there := map[string]bool{}
	changed := false
	for _, kv := range get.Kvs {
		job, value := string(kv.Key[len(dir):]), string(kv.Value)
		if old, ok := jobs[job]; !ok || old != value {
			jobs[job], changed = value, true
		}
		there[job] = true
	}
	for job := range jobs {
		if !there[job] {
			delete(jobs, job)
			changed = true
		}
	}
	if changed || len(jobs) == 0 {
		err = print(get.Header.Revision, jobs)
	}
	return get.Header.Revision + 1, err
}

func follow(ctx context.Context, client *clientv3.Client, next int64, jobs map[string]string) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for response := range client.Watch(ctx, dir, clientv3.WithPrefix(), clientv3.WithRev(next)) {
		if response.Err() != nil {
			return next, response.Err()
		}
		for len(response.Events) > 0 {
			revision := response.Events[0].Kv.ModRevision
			for len(response.Events) > 0 && response.Events[0].Kv.ModRevision == revision {
				event := response.Events[0]
				job := strings.TrimPrefix(string(event.Kv.Key), dir)
				if event.Type == clientv3.EventTypePut {
					jobs[job] = string(event.Kv.Value)
				} else {
					delete(jobs, job)
				}
				response.Events = response.Events[1:]
			}
			if err := print(revision, jobs); err != nil {
				return next, err
			}
			next = revision + 1
		}
	}
	return next, ctx.Err()
}

func print(revision int64, jobs map[string]string) error {
	text, err := json.Marshal(line{revision, jobs})
	if err == nil {
		_, err = fmt.Fprintf(os.Stdout, "%s\n", text)
	}
	return err
}
