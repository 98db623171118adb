// Right: it reads the present each time, and begins anew until the store was at one
// and the same revision from the first page to the last.
package main

import (
	"context"
	"fmt"
	"path"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
again:
	lines := []string{}
	for key, revision := "/cron/jobs/", int64(0); ; {
		get, err := client.Get(ctx, key, clientv3.WithRange("/cron/jobs0"), clientv3.WithLimit(50))
		if err != nil {
			return err
		}
		if revision != 0 && get.Header.Revision != revision {
			goto again
		}
		revision = get.Header.Revision
		for _, kv := range get.Kvs {
			lines = append(lines, fmt.Sprintf("%s -> %q", path.Base(string(kv.Key)), kv.Value))
			key = string(kv.Key) + "\x00"
		}
		if !get.More {
			fmt.Printf("%d jobs at revision %d\n", len(lines), revision)
			break
		}
	}
	for _, line := range lines {
		fmt.Println(line)
	}
	return nil
}
