// Right: a worker takes the lock of a job and keeps it, for as long as it lives. It
// runs all ticks of the job meanwhile; the others stand by. What the one before it
// has run it finds out by the same condition.
package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var (
	name  = flag.String("name", "worker", "")
	ttl   = flag.Int64("ttl", 2, "")
	every = flag.Duration("every", 2*time.Second, "")
	work  = flag.Duration("work", 100*time.Millisecond, "")
	clock = flag.Duration("clock", 0, "")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	var all sync.WaitGroup
	defer all.Wait()
	var mutex sync.Mutex
	mine := map[string]bool{}
	for ctx.Err() == nil {
		call, done := context.WithTimeout(ctx, 2*time.Second)
		get, err := client.Get(call, "/cron/jobs/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		done()
		if err != nil {
			fmt.Println(err)
		} else {
			for _, kv := range get.Kvs {
				job := string(kv.Key[len("/cron/jobs/"):])
				mutex.Lock()
				busy := mine[job]
				mine[job] = true
				mutex.Unlock()
				if busy {
					continue
				}
				all.Go(func() {
					if err := hold(ctx, client, job); err != nil {
						fmt.Println(job, err)
					}
					mutex.Lock()
					delete(mine, job)
					mutex.Unlock()
				})
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

func hold(ctx context.Context, client *clientv3.Client, job string) error {
	key, lock := "/cron/jobs/"+job, "/cron/lock/"+job
	call, done := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer done()
	get, err := client.Get(call, lock)
	if err != nil || get.Count > 0 {
		return err
	}
	lease, err := client.Grant(call, *ttl)
	if err != nil {
		return err
	}
	held, lost := context.WithCancel(ctx)
	defer func() {
		lost()
		call, done := context.WithTimeout(context.Background(), 2*time.Second)
		defer done()
		client.Revoke(call, lease.ID)
	}()
	renewals, err := client.KeepAlive(held, lease.ID)
	if err != nil {
		return err
	}
	go func() {
		for range renewals {
		}
		lost()
	}()
	txn, err := client.Txn(call).
		If(clientv3.Compare(clientv3.CreateRevision(lock), "=", 0)).
		Then(clientv3.OpPut(lock, *name, clientv3.WithLease(lease.ID))).Commit()
	if err != nil || !txn.Succeeded {
		return err
	}
	token := txn.Header.Revision
	for {
		now := time.Now().Add(*clock).UnixNano()
		tick := now/int64(*every) + 1
		select {
		case <-held.Done():
			return nil
		case <-time.After(time.Duration(tick*int64(*every) - now)):
		}
		// Begun late, the tick ends before the next one all the same.
		call, done := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second+*work)
		get, err := client.Get(call, key)
		if err == nil && get.Count > 0 {
			time.Sleep(*work)
			record := fmt.Sprintf("/cron/run/%s/%d", job, tick)
			_, err = client.Txn(call).
				If(clientv3.Compare(clientv3.CreateRevision(lock), "=", token),
					clientv3.Compare(clientv3.CreateRevision(record), "=", 0),
					clientv3.Compare(clientv3.Value(key), "=", string(get.Kvs[0].Value))).
				Then(clientv3.OpPut(record, fmt.Sprintf("token %d: %s", token, get.Kvs[0].Value))).
				Commit()
		}
		done()
		if err != nil || get.Count == 0 {
			return err
		}
	}
}
