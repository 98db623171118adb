// Right: it reads each page as a stream, which brings a hundred keys in messages of their
// own, all at the revision of the first one.
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
		fmt.Printf("%s -> %q\n", strings.TrimPrefix(string(kv.Key), dir), kv.Value)
	}
	return nil
}

func list(ctx context.Context, client *clientv3.Client) ([]*mvccpb.KeyValue, int64, error) {
	var jobs []*mvccpb.KeyValue
	revision := int64(0)
	for key := dir; ; {
		stream, err := client.GetStream(ctx, key,
			clientv3.WithRange(clientv3.GetPrefixRangeEnd(dir)),
			clientv3.WithLimit(100),
			clientv3.WithRev(revision))
		if err != nil {
			return nil, 0, err
		}
		page, err := clientv3.GetStreamToGetResponse(stream)
		if err != nil {
			return nil, 0, err
		}
		jobs = append(jobs, page.Kvs...)
		if revision == 0 {
			revision = page.Header.Revision
		}
		if !page.More {
			return jobs, revision, nil
		}
		key = string(jobs[len(jobs)-1].Key) + "\x00"
	}
}
