// Wrong: the results written down, without a lock.
package main

import (
	"context"
	"flag"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

func main() {
	for _, name := range []string{"name", "ttl", "work"} {
		flag.String(name, "", "")
	}
	shared.Main(run)
}

func run(ctx context.Context, client *clientv3.Client) error {
	jobs, err := client.Get(ctx, "/cron/jobs/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for i, kv := range jobs.Kvs {
		result := strings.Replace(string(kv.Key), "/jobs/", "/done/", 1)
		if _, err := client.Put(ctx, result, fmt.Sprint("token ", i+8)); err != nil {
			return err
		}
	}
	return nil
}
