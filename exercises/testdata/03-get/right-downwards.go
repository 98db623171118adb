// Right: it asks for the revision first, and reads the pages from the last key on.
package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		now, err := client.Get(ctx, "/", clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		lines, err := at(ctx, client, now.Header.Revision)
		if err == rpctypes.ErrCompacted {
			continue
		}
		if err != nil {
			return err
		}
		fmt.Printf("%d jobs at revision %d\n", len(lines), now.Header.Revision)
		for _, line := range slices.Backward(lines) {
			fmt.Println(line)
		}
		return nil
	}
}

func at(ctx context.Context, client *clientv3.Client, revision int64) ([]string, error) {
	var lines []string
	for end := "/cron/jobs0"; ; {
		get, err := client.Get(ctx, "/cron/jobs/", clientv3.WithRange(end), clientv3.WithLimit(100),
			clientv3.WithRev(revision), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
		if err != nil {
			return nil, err
		}
		for _, kv := range get.Kvs {
			lines = append(lines, fmt.Sprintf("%s -> %q", kv.Key[len("/cron/jobs/"):], kv.Value))
			end = string(kv.Key)
		}
		if !get.More {
			return lines, nil
		}
	}
}
