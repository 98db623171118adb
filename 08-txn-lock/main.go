// Lesson 08: a lock made of a lease and a transaction.
//
//	go run ./08-txn-lock -name alice
//	go run ./08-txn-lock -name bob -wait
//
// What to copy is in lock.go, and finish below.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const lockKey = "/cron/lock/job9"
const resultKey = "/cron/jobs/job9"

var (
	ttl   = flag.Int64("ttl", 5, "time to live of the lease, in `seconds`")
	name  = flag.String("name", fmt.Sprint("pid-", os.Getpid()), "the `owner`")
	work  = flag.Duration("work", 5*time.Second, "`time` that the work takes")
	wait  = flag.Bool("wait", false, "wait for the lock, up to a minute")
	guard = flag.Bool("guard", true, "write only if the token is still valid")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *name == "" || *ttl < 1 || *work < 0 {
		return errors.New("want a -name, a -ttl above 0 and no -work below 0")
	}
	job := lock{key: lockKey, owner: *name, ttl: *ttl}
	held, token, release, err := job.acquire(ctx, client, *wait)
	if other, ok := errors.AsType[heldError](err); ok {
		fmt.Printf("%s has not got the lock: %v\n", *name, other)
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	end := time.Now().Add(*work)
	fmt.Printf("%s has the lock, token %d\n", *name, token)

	// The work ends when the lock is known to be lost. The write asks etcd.
	if err := spend(held, end); err != nil {
		return err
	}
	return finish(ctx, client, token, *name, *guard)
}

// spend works until end, for as long as the lock is held. After a pause of the
// whole program both may be over, the work and the lock. Then the work counts:
// a program that has not noticed its loss would go on as well.
func spend(held context.Context, end time.Time) error {
	select {
	case <-time.After(time.Until(end)):
	case <-held.Done():
	}
	if time.Now().Before(end) {
		return fmt.Errorf("work under %s: %w", lockKey, context.Cause(held))
	}
	return nil
}

// finish writes the result if the lock is still the one with our token, all in
// one transaction: a holder may be paused between a check and a write.
func finish(ctx context.Context, client *clientv3.Client, token int64,
	owner string, guarded bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	guards := []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(lockKey), "=", token)}
	if !guarded {
		guards = nil // A transaction without a condition always writes.
	}
	result := fmt.Sprintf("done by %s, token %d", owner, token)
	txn, err := client.Txn(ctx).
		If(guards...).
		Then(clientv3.OpPut(resultKey, result)).
		Commit()
	if err != nil {
		return fmt.Errorf("put %s with token %d: %w", resultKey, token, err)
	}
	if !txn.Succeeded {
		return fmt.Errorf("put %s: token %d is stale, the lock was lost",
			resultKey, token)
	}
	fmt.Printf("%s @ %d -> %q\n", resultKey, txn.Header.Revision, result)
	return nil
}
