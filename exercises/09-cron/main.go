// Exercise 09: a cron of many workers.
//
//	go run ./exercises/09-cron -name ann
//	go run ./exercises/09-cron -name ben
//
// The keys under /cron/jobs/ are the jobs, their values the commands. Every job
// runs once in a tick, however many workers there are. Tick T begins when T
// times -every have passed since 1970, by the worker's clock, which is fast by
// -clock. Who runs the job J holds the lock /cron/lock/J meanwhile, and then
// writes:
//
//	/cron/run/J/T -> "token N: COMMAND"
//
// N is the create revision of the lock, and the command is what J holds at that
// moment. No job has two runs in a tick, and none without the lock. Clocks
// differ; workers sleep, die and come late: at most two ticks in a row are left
// out. Jobs come, change and go, and one that is gone does not run any more.
// Ctrl-C ends the program with status 0, and no lease stays behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const dir = "/cron/jobs/"

var (
	name  = flag.String("name", "worker", "the `owner` of the locks")
	ttl   = flag.Int64("ttl", 2, "time to live of a lock, in `seconds`")
	every = flag.Duration("every", 2*time.Second, "`time` from tick to tick")
	work  = flag.Duration("work", 100*time.Millisecond, "`time` of a run")
	clock = flag.Duration("clock", 0, "this `time` the worker's clock is fast")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	var all sync.WaitGroup
	defer all.Wait() // Whoever holds a lock gives it back.
	for {
		now := time.Now().Add(*clock).UnixNano()
		tick := now/int64(*every) + 1
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(tick*int64(*every) - now)):
		}
		all.Go(func() {
			if err := runAll(ctx, client, tick); err != nil {
				fmt.Printf("%s, tick %d: %v\n", *name, tick, err)
			}
		})
	}
}

// runAll runs all jobs that there are now, side by side.
func runAll(ctx context.Context, client *clientv3.Client, tick int64) error {
	call, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	get, err := client.Get(call, dir, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("get %s: %w", dir, err)
	}
	var jobs sync.WaitGroup
	defer jobs.Wait()
	for _, job := range get.Kvs {
		jobs.Go(func() {
			if err := do(ctx, client, job, tick); err != nil {
				fmt.Printf("%s, tick %d: %s: %v\n", *name, tick, job.Key, err)
			}
		})
	}
	return nil
}

// do runs a job, unless another has its lock.
func do(ctx context.Context, client *clientv3.Client, job *mvccpb.KeyValue,
	tick int64) error {
	// Ctrl-C does not cut it short: a lock that is taken is given back.
	ctx, cancel := context.WithTimeout(
		context.WithoutCancel(ctx), *work+5*time.Second)
	defer cancel()
	lease, err := client.Grant(ctx, *ttl)
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	defer client.Revoke(ctx, lease.ID) // It deletes the lock.
	// The renewals end before: should it get lost, the lease ends by itself.
	renewing, stop := context.WithCancel(ctx)
	defer stop()
	renewals, err := client.KeepAlive(renewing, lease.ID)
	if err != nil {
		return fmt.Errorf("keep the lease alive: %w", err)
	}
	go func() {
		for range renewals {
		}
	}()
	short := strings.TrimPrefix(string(job.Key), dir)
	lock := "/cron/lock/" + short
	txn, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(lock), "=", 0)).
		Then(clientv3.OpPut(lock, *name, clientv3.WithLease(lease.ID))).
		Commit()
	if err != nil || !txn.Succeeded {
		return err
	}
	token := txn.Header.Revision
	time.Sleep(*work) // This is the work.
	// It counts if the lock is still ours, and the job what it was.
	result := fmt.Sprintf("token %d: %s", token, job.Value)
	record := fmt.Sprintf("/cron/run/%s/%d", short, tick)
	txn, err = client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(lock), "=", token),
			clientv3.Compare(clientv3.ModRevision(string(job.Key)), "=",
				job.ModRevision)).
		Then(clientv3.OpPut(record, result)).
		Commit()
	if err == nil && !txn.Succeeded {
		err = fmt.Errorf("token %d is stale, or the job has changed", token)
	}
	return err
}
