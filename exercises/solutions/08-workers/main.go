// Solution 08: workers that share jobs, and do each job once.
//
//	go run ./exercises/solutions/08-workers -name ann
//
// A worker may sleep at any moment, also after it has looked at its lock, and
// with its write already on the way. So nothing that it does before the write
// is enough: no look at the lock, at the clock or at the lease. Where the
// result is written, and in that moment, etcd has to compare the lock with the
// token.
//
// Not the owner's name: another worker may have the same. Not the result alone:
// while the next one works, there is none yet.
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
		jobs, err := open(ctx, client)
		if err != nil || len(jobs) == 0 {
			return err
		}
		for job := range jobs {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := do(ctx, client, job); err != nil {
				// The next round sees whether it is done. A write that is still
				// on its way finds no lock: it was revoked.
				fmt.Printf("%s has not done %s: %v\n", *name, job, err)
			}
		}
		time.Sleep(100 * time.Millisecond) // Others work on what is left.
	}
}

// open returns the jobs that have no result, in no order: so workers seldom
// meet.
func open(ctx context.Context, client *clientv3.Client) (
	map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	txn, err := client.Txn(ctx).Then(
		clientv3.OpGet("/cron/jobs/", clientv3.WithPrefix()),
		clientv3.OpGet("/cron/done/", clientv3.WithPrefix())).Commit()
	if err != nil {
		return nil, fmt.Errorf("get the jobs: %w", err)
	}
	jobs := map[string]bool{}
	for _, kv := range txn.Responses[0].GetResponseRange().Kvs {
		jobs[strings.TrimPrefix(string(kv.Key), "/cron/jobs/")] = true
	}
	for _, kv := range txn.Responses[1].GetResponseRange().Kvs {
		delete(jobs, strings.TrimPrefix(string(kv.Key), "/cron/done/"))
	}
	return jobs, nil
}

// do does a job, unless another has its lock.
func do(ctx context.Context, client *clientv3.Client, job string) error {
	// A Grant that Ctrl-C cuts off might leave a lease that nobody knows.
	call, done := context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)
	defer done()
	lease, err := client.Grant(call, *ttl)
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	held, lost := context.WithCancel(ctx)
	// To revoke the lease deletes the lock.
	defer func() {
		lost()
		call, done := context.WithTimeout(
			context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		client.Revoke(call, lease.ID)
	}()
	renewals, err := client.KeepAlive(held, lease.ID)
	if err != nil {
		return fmt.Errorf("keep the lease alive: %w", err)
	}
	go func() {
		for range renewals {
		}
		lost() // The renewals end when the lease does.
	}()

	// The lock is taken if nobody has it, and if nobody has done the job.
	lock, result := "/cron/lock/"+job, "/cron/done/"+job
	txn, err := client.Txn(call).
		If(clientv3.Compare(clientv3.CreateRevision(lock), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(result), "=", 0)).
		Then(clientv3.OpPut(lock, *name, clientv3.WithLease(lease.ID))).
		Commit()
	if err != nil || !txn.Succeeded {
		return err // nil when another has the lock, or has done the job
	}
	// This revision has created the lock.
	token := txn.Header.Revision

	select {
	case <-time.After(*work): // This is the work.
	case <-held.Done():
		return fmt.Errorf("%s is lost, or not wanted any more", lock)
	}
	// The result is written if the lock is still the one that we got. Whoever
	// it belongs to otherwise, by name or by value, its create revision is
	// another.
	write, written := context.WithTimeout(ctx, 10*time.Second)
	defer written()
	txn, err = client.Txn(write).
		If(clientv3.Compare(clientv3.CreateRevision(lock), "=", token)).
		Then(clientv3.OpPut(result, fmt.Sprint("token ", token))).
		Commit()
	if err != nil {
		return fmt.Errorf("put the result: %w", err)
	}
	if !txn.Succeeded {
		return fmt.Errorf("token %d is stale, the lock was lost", token)
	}
	fmt.Printf("%s has done %s, token %d\n", *name, job, token)
	return nil
}
