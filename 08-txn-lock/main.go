// Lesson 08: a lock made of a lease and a transaction.
//
//	go run ./08-txn-lock -name alice
//	go run ./08-txn-lock -name bob -wait
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const (
	lockKey   = "/cron/lock/job9"
	resultKey = "/cron/jobs/job9"
)

var (
	ttl  = flag.Int64("ttl", 5, "time to live of the lease, in `seconds`")
	name = flag.String("name", fmt.Sprint("pid-", os.Getpid()), "`owner` to be")
	work = flag.Duration("work", 5*time.Second, "`time` that the work takes")
	wait = flag.Bool("wait", false, "wait for the lock, up to a minute")

	guard = flag.Bool("guard", true, "write only if the token is still valid")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) (err error) {
	// Ctrl-C does not cut this call short: nobody could revoke a lease whose ID
	// never came.
	call, cancel := context.WithTimeout(
		context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	lease, err := client.Grant(call, *ttl)
	if err != nil {
		return fmt.Errorf("grant a lease for %s: %w", lockKey, err)
	}

	// Whatever happened, release; report what failed first.
	defer func() { err = cmp.Or(err, release(ctx, client, lease.ID)) }()

	// The answers to the renewals must be received. When a TTL has passed with
	// no answer, no more come, and held ends. That is soon after the lease, and
	// not before: only the guarded write in finish is safe.
	var renewal sync.WaitGroup
	defer renewal.Wait()
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	renewals, err := client.KeepAlive(held, lease.ID)
	if err != nil {
		return fmt.Errorf("keep the lease of %s alive: %w", lockKey, err)
	}
	renewal.Go(func() {
		for range renewals {
		}
		lose(errors.New("the lease is lost, and the lock with it"))
	})

	token, err := lock(held, client, lease.ID)
	if err != nil || token == 0 {
		return err
	}
	done := time.Now().Add(*work)
	fmt.Printf("%s has the lock, token %d, lease of %d s\n",
		*name, token, lease.TTL)
	select {
	case <-time.After(time.Until(done)):
	case <-held.Done():
	}
	if time.Now().Before(done) {
		return fmt.Errorf("work under %s: %w", lockKey, context.Cause(held))
	}
	return finish(ctx, client, token)
}

// lock returns the create revision of the lock: the fencing token, which grows
// from holder to holder. It returns 0 when another holds it and -wait is off.
func lock(ctx context.Context, client *clientv3.Client,
	lease clientv3.LeaseID) (int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute,
		errors.New("it was not free for a minute"))
	defer cancel()
	for {
		// A key that does not exist has the create revision 0.
		txn, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(lockKey), "=", 0)).
			Then(clientv3.OpPut(lockKey, *name, clientv3.WithLease(lease))).
			Else(clientv3.OpGet(lockKey)).
			Commit()
		if err != nil {
			err = cmp.Or(context.Cause(ctx), err)
			return 0, fmt.Errorf("lock %s: %w", lockKey, err)
		}
		if txn.Succeeded {
			return txn.Header.Revision, nil
		}
		for _, kv := range txn.Responses[0].GetResponseRange().Kvs {
			fmt.Printf("%s has not got the lock: %s has, token %d\n",
				*name, kv.Value, kv.CreateRevision)
		}
		if !*wait {
			return 0, nil
		}

		// A watch from the next revision misses no release. Its first answer is
		// that release, or the reason why none can be seen: then the next try
		// will tell.
		watch, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
		answer := <-client.Watch(watch, lockKey, clientv3.WithFilterPut(),
			clientv3.WithRev(txn.Header.Revision+1))
		stop()
		err = cmp.Or(context.Cause(ctx), answer.Err())
		if err != nil && !errors.Is(err, rpctypes.ErrCompacted) &&
			!errors.Is(err, rpctypes.ErrNoLeader) {
			return 0, fmt.Errorf("wait for %s: %w", lockKey, err)
		}
	}
}

// finish writes the result if the lock is still the one with our token, all in
// one transaction: a holder may be paused between a check and a write.
func finish(ctx context.Context, client *clientv3.Client, token int64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var guards []clientv3.Cmp
	if *guard {
		guards = append(guards, clientv3.Compare(
			clientv3.CreateRevision(lockKey), "=", token))
	}
	result := fmt.Sprintf("done by %s, token %d", *name, token)
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

// release revokes the lease, which deletes the lock now and not only after the
// TTL. It also has to after a Ctrl-C, when ctx is over.
func release(ctx context.Context, client *clientv3.Client,
	lease clientv3.LeaseID) error {
	ctx = context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := client.Revoke(ctx, lease)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke the lease of %s: %w", lockKey, err)
	}
	return nil
}
