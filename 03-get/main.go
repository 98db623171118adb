// Lesson 03: get one key, many keys, or the past.
//
//	go run ./03-get
package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const (
	job1      = "/cron/jobs/get/job1"
	job2      = "/cron/jobs/get/job2"
	job3      = "/cron/jobs/get/job3"
	neighbour = "/cron/jobs/get-later/job1"
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	var past int64
	for _, key := range []string{job1, job2, job3, neighbour} {
		put, err := client.Put(ctx, key, "run daily")
		if err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		past = put.Header.Revision
	}
	if _, err := client.Put(ctx, job1, "run hourly"); err != nil {
		return fmt.Errorf("put %s: %w", job1, err)
	}

	err := show(ctx, client, "One key", job1)
	if err != nil {
		return err
	}
	// A key that is not there is no error.
	err = show(ctx, client, "A missing key", "/cron/jobs/get/job0")
	if err != nil {
		return err
	}

	// A prefix is compared byte by byte, and knows no folders. Without the last
	// slash it matches the neighbour as well.
	err = show(ctx, client, "A prefix", "/cron/jobs/get/",
		clientv3.WithPrefix())
	if err != nil {
		return err
	}
	err = show(ctx, client, "A prefix without its slash", "/cron/jobs/get",
		clientv3.WithPrefix())
	if err != nil {
		return err
	}

	// Count is always that of all matches, however many come back.
	err = show(ctx, client, "Count only", "/cron/jobs/get/",
		clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	err = show(ctx, client, "At most two", "/cron/jobs/get/",
		clientv3.WithPrefix(), clientv3.WithLimit(2))
	if err != nil {
		return err
	}
	err = show(ctx, client, "The last changed first", "/cron/jobs/get/",
		clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))
	if err != nil {
		return err
	}

	// Every revision can be read until somebody compacts the history.
	return show(ctx, client, fmt.Sprint("The past, at revision ", past), job1,
		clientv3.WithRev(past))
}

// show gets key with the options and prints what came back.
func show(ctx context.Context, client *clientv3.Client, title, key string,
	options ...clientv3.OpOption) error {
	get, err := client.Get(ctx, key, options...)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	fmt.Printf("%s: count %d, more %t\n", title, get.Count, get.More)
	for _, kv := range get.Kvs {
		fmt.Printf("  %s @ %d -> %q\n", kv.Key, kv.ModRevision, kv.Value)
	}
	return nil
}
