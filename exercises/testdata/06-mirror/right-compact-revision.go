// Right: after a compaction it reads the past at the compact revision, which is the
// oldest that can still be read, and goes on from there: it leaves out the least.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const dir = "/cron/jobs/"

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	begin := int64(0)
	for ctx.Err() == nil {
		oldest, err := follow(ctx, client, begin)
		if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
		begin = oldest
	}
	return nil
}

// follow returns the compact revision when that is why it ended; 0 if not known.
func follow(ctx context.Context, client *clientv3.Client, at int64) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, done := context.WithTimeout(ctx, 10*time.Second)
	defer done()
	get, err := client.Get(call, dir, clientv3.WithPrefix(), clientv3.WithRev(at))
	if err != nil {
		return 0, err
	}
	if at == 0 {
		at = get.Header.Revision
	}
	jobs := map[string]string{}
	for _, kv := range get.Kvs {
		jobs[strings.TrimPrefix(string(kv.Key), dir)] = string(kv.Value)
	}
	show(at, jobs)
	for response := range client.Watch(ctx, dir, clientv3.WithPrefix(), clientv3.WithRev(at+1)) {
		if response.Err() != nil {
			return response.CompactRevision, response.Err()
		}
		for i, event := range response.Events {
			if i > 0 && event.Kv.ModRevision > at {
				show(at, jobs)
			}
			at = event.Kv.ModRevision
			job := strings.TrimPrefix(string(event.Kv.Key), dir)
			delete(jobs, job)
			if event.Type == clientv3.EventTypePut {
				jobs[job] = string(event.Kv.Value)
			}
		}
		if len(response.Events) > 0 {
			show(at, jobs)
		}
	}
	return 0, ctx.Err()
}

func show(revision int64, jobs map[string]string) {
	text, _ := json.Marshal(jobs)
	fmt.Printf(`{"jobs":%s,"revision":%d}`+"\n", text, revision)
}
