// Solution 03: list many jobs, as they are at one moment.
//
//	go run ./exercises/solutions/03-get
//
// Each page is an answer of its own, and a key that moves between two of them,
// from a page that is still to come to one that was read, is in neither. So all
// pages are read at the revision of the first one, whatever the store is by
// then.
//
// That past may be compacted before the last page is read. What was read until
// then belongs to a moment that nobody can read any more, so it is dropped:
// pages of two moments make no list.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const dir = "/cron/jobs/"

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	jobs, revision, err := list(ctx, client)
	for errors.Is(err, rpctypes.ErrCompacted) {
		fmt.Fprintln(os.Stderr, "beginning anew:", err)
		jobs, revision, err = list(ctx, client)
	}
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

// list reads page after page, all at the revision of the first.
func list(ctx context.Context, client *clientv3.Client) (
	[]*mvccpb.KeyValue, int64, error) {
	var jobs []*mvccpb.KeyValue
	revision := int64(0) // For WithRev this is the present.
	for key := dir; ; {
		get, err := client.Get(ctx, key, clientv3.WithLimit(100),
			clientv3.WithRange(clientv3.GetPrefixRangeEnd(dir)),
			clientv3.WithRev(revision))
		if err != nil {
			return nil, 0, fmt.Errorf("get %s at revision %d: %w",
				key, revision, err)
		}
		jobs = append(jobs, get.Kvs...)
		// The header tells the revision of the store, also when the past was
		// read.
		if revision == 0 {
			revision = get.Header.Revision
		}
		if !get.More {
			return jobs, revision, nil
		}
		// The next page begins with the first key after the last of this one.
		key = string(jobs[len(jobs)-1].Key) + "\x00"
	}
}
