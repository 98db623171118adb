// Wrong: runs written down, without a lock.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var every = flag.Duration("every", 2*time.Second, "")

func main() {
	for _, name := range []string{"name", "ttl", "work", "clock"} {
		flag.String(name, "", "")
	}
	shared.Main(run)
}

func run(ctx context.Context, client *clientv3.Client) error {
	for ctx.Err() == nil {
		tick := time.Now().UnixNano() / int64(*every)
		for _, job := range []string{"backup", "clean"} {
			client.Put(ctx, fmt.Sprintf("/cron/run/%s/%d", job, tick), "token 8: run daily")
		}
		time.Sleep(*every)
	}
	return nil
}
