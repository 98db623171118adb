// Right: the lock's lease is compared instead of its create revision. Each lock has
// a lease of its own, so the two say the same.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"path"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var (
	name = flag.String("name", "worker", "the `owner` of the locks")
	ttl  = flag.Int64("ttl", 2, "time to live of a lock, in `seconds`")
	work = flag.Duration("work", 100*time.Millisecond, "`time` of a job")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	for left := true; left; {
		call, done := context.WithTimeout(ctx, 10*time.Second)
		jobs, err := client.Get(call, "/cron/jobs/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		done()
		if err != nil {
			return err
		}
		left = false
		for _, kv := range jobs.Kvs {
			job := path.Base(string(kv.Key))
			finished, err := one(ctx, client, job)
			if err != nil {
				log.Printf("%s: %s: %v", *name, job, err)
			}
			left = left || !finished
		}
		if left {
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// one says whether the job is known to be done.
func one(ctx context.Context, client *clientv3.Client, job string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second+*work)
	defer cancel()
	result, lock := "/cron/done/"+job, "/cron/lock/"+job
	get, err := client.Get(ctx, result)
	if err != nil || get.Count > 0 {
		return err == nil, err
	}
	lease, err := client.Grant(ctx, *ttl)
	if err != nil {
		return false, err
	}
	defer func() {
		call, done := context.WithTimeout(context.Background(), 3*time.Second)
		defer done()
		client.Revoke(call, lease.ID)
	}()
	txn, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.Version(lock), "=", 0), clientv3.Compare(clientv3.Version(result), "=", 0)).
		Then(clientv3.OpPut(lock, *name, clientv3.WithLease(lease.ID))).
		Commit()
	if err != nil || !txn.Succeeded {
		return false, err
	}
	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return false, err
	}
	for end := time.After(*work); ; {
		select {
		case <-end:
			put := clientv3.OpPut(result, fmt.Sprintf("token %d", txn.Header.Revision))
			written, err := client.Txn(ctx).
				If(clientv3.Compare(clientv3.LeaseValue(lock), "=", lease.ID)).
				Then(put).Commit()
			return err == nil && written.Succeeded, err
		case _, ok := <-renewals:
			if !ok {
				return false, fmt.Errorf("the lease of %s has ended", lock)
			}
		}
	}
}
