// Right: it keeps no jobs at all. The watch only tells which revisions there are,
// and each is read from the past. What was compacted meanwhile is left out, and
// the present is read.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const dir = "/cron/jobs/"

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	for {
		err := mirror(ctx, client)
		switch {
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, rpctypes.ErrCompacted):
			return err
		}
	}
}

// mirror begins with the present, and goes on until there is a gap.
func mirror(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	printed, err := at(ctx, client, 0)
	if err != nil {
		return err
	}
	for response := range client.Watch(ctx, dir,
		clientv3.WithPrefix(), clientv3.WithRev(printed+1)) {
		if err := response.Err(); err != nil {
			return err
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision <= printed {
				continue // The same revision changed another job before.
			}
			if printed, err = at(ctx, client, event.Kv.ModRevision); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// at prints the jobs of a revision, or those of the present for 0.
func at(ctx context.Context, client *clientv3.Client, revision int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	get, err := client.Get(ctx, dir, clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		return 0, fmt.Errorf("get %s at revision %d: %w", dir, revision, err)
	}
	if revision == 0 {
		revision = get.Header.Revision
	}
	jobs := make(map[string]string, len(get.Kvs))
	for _, kv := range get.Kvs {
		jobs[path.Base(string(kv.Key))] = string(kv.Value)
	}
	return revision, json.NewEncoder(os.Stdout).Encode(map[string]any{
		"revision": revision,
		"jobs":     jobs,
	})
}
