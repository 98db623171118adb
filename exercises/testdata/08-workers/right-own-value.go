// Right: the lock's value is that of one holder alone, whatever its name: its name
// and its lease. And the result takes the lock's place in one transaction.
package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
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
	for {
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		all, err := client.Get(call, "/cron/", clientv3.WithPrefix())
		cancel()
		if err != nil {
			return err
		}
		state := map[string]string{} // jobs, lock or done
		for _, kv := range all.Kvs {
			kind, job, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), "/cron/"), "/")
			if kind == "jobs" && state[job] == "" || kind == "lock" && state[job] != "done" || kind == "done" {
				state[job] = kind
			}
		}
		left := 0
		for job, kind := range state {
			if kind == "done" {
				continue
			}
			left++
			if kind == "jobs" {
				if err := do(ctx, client, job); err != nil {
					fmt.Println(job, err)
				}
			}
		}
		if left == 0 {
			return nil
		}
		// Something will happen there, or it is time to look again.
		watching, stop := context.WithTimeout(ctx, time.Second)
		<-client.Watch(watching, "/cron/", clientv3.WithPrefix(), clientv3.WithRev(all.Header.Revision+1))
		stop()
	}
}

func do(ctx context.Context, client *clientv3.Client, job string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), *work+20*time.Second)
	defer cancel()
	lease, err := client.Grant(ctx, *ttl)
	if err != nil {
		return err
	}
	defer client.Revoke(ctx, lease.ID)
	lock, result := "/cron/lock/"+job, "/cron/done/"+job
	mine := fmt.Sprintf("%s %x", *name, lease.ID)
	txn, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(lock), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(result), "=", 0)).
		Then(clientv3.OpPut(lock, mine, clientv3.WithLease(lease.ID))).
		Commit()
	if err != nil || !txn.Succeeded {
		return err
	}
	working, stop := context.WithTimeout(ctx, *work)
	defer stop()
	renewals, err := client.KeepAlive(working, lease.ID)
	if err != nil {
		return err
	}
	for range renewals {
	}
	if working.Err() == nil {
		return fmt.Errorf("the lock was lost")
	}
	_, err = client.Txn(ctx).
		If(clientv3.Compare(clientv3.Value(lock), "=", mine)).
		Then(clientv3.OpPut(result, fmt.Sprint("token ", txn.Header.Revision)), clientv3.OpDelete(lock)).
		Commit()
	return err
}
