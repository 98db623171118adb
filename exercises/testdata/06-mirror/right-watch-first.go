// Right: it watches first, waits until the watch stands, and gets afterwards. What
// the answer already holds it skips. After a compaction all of it begins anew.
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
	for {
		err := follow(ctx, client)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
		fmt.Println("it was compacted: beginning anew")
	}
}

func follow(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watching := client.Watch(ctx, dir, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	created, ok := <-watching
	if !ok || created.Err() != nil {
		return errors.Join(created.Err(), ctx.Err())
	}

	call, done := context.WithTimeout(ctx, 10*time.Second)
	defer done()
	get, err := client.Get(call, dir, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	jobs := map[string]string{}
	for _, kv := range get.Kvs {
		jobs[name(kv.Key)] = string(kv.Value)
	}
	show(get.Header.Revision, jobs)

	for response := range watching {
		if response.Err() != nil {
			return response.Err()
		}
		told := int64(0)
		for _, event := range response.Events {
			if event.Kv.ModRevision <= get.Header.Revision {
				continue
			}
			if told != 0 && told != event.Kv.ModRevision {
				show(told, jobs)
			}
			told = event.Kv.ModRevision
			if event.Type == clientv3.EventTypeDelete {
				delete(jobs, name(event.Kv.Key))
			} else {
				jobs[name(event.Kv.Key)] = string(event.Kv.Value)
			}
		}
		if told != 0 {
			show(told, jobs)
		}
	}
	return ctx.Err()
}

func name(key []byte) string { return strings.TrimPrefix(string(key), dir) }

func show(revision int64, jobs map[string]string) {
	text, _ := json.Marshal(jobs)
	fmt.Printf(`{"revision": %d, "jobs": %s}`+"\n", revision, text)
}
