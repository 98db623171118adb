package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var errBusy = errors.New("it was not free for a minute")

// lock is a key with a lease. Whoever creates the key has the lock. When the
// holder dies, nobody renews the lease, the key goes, and the lock is free.
type lock struct {
	key, owner string // the owner is the key's value: it says who has the lock

	ttl int64 // of the lease, in seconds
}

// heldError says that another has the lock: its key tells who, by the value,
// and with which token, by the create revision.
type heldError struct{ key *mvccpb.KeyValue }

func (e heldError) Error() string {
	return fmt.Sprintf("%s has it, token %d", e.key.Value, e.key.CreateRevision)
}

// acquire returns the fencing token, which grows from holder to holder, and the
// function that releases the lock. The context held ends with ctx, or when the
// lock may be lost. That may be too late: only a write that compares the token
// is safe. While another has the lock, acquire waits if wait says so, for up to
// a minute; otherwise the error is a heldError.
func (l lock) acquire(ctx context.Context, client *clientv3.Client, wait bool) (
	held context.Context, token int64, release func(), err error) {
	// Ctrl-C does not cut Grant short: nobody could revoke a lease whose ID
	// never came.
	call, done := context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)
	defer done()
	lease, err := client.Grant(call, l.ttl)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("grant a lease for %s: %w", l.key, err)
	}

	// The answers to the renewals end when the lease does. They also end when
	// etcd has not answered in time; then the lease may live on for a while.
	held, end := context.WithCancelCause(ctx)
	renewals, err := client.KeepAlive(held, lease.ID)
	var drained sync.WaitGroup
	drained.Go(func() {
		for range renewals {
		}
		end(errors.New("the lease is lost, and the lock with it"))
	})

	// To revoke the lease deletes the key now. Should it fail, the lease ends
	// after its TTL.
	release = func() {
		end(nil)
		drained.Wait()
		call, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		client.Revoke(call, lease.ID)
	}
	if err == nil {
		token, err = l.create(held, client, lease.ID, wait)
	}
	if err != nil {
		release() // Nothing is left behind.
	}
	return held, token, release, err
}

// create puts the key, unless it is there, and returns its create revision.
func (l lock) create(ctx context.Context, client *clientv3.Client,
	lease clientv3.LeaseID, wait bool) (int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errBusy)
	defer cancel()
	for {
		// A key that does not exist has the create revision 0.
		txn, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(l.key), "=", 0)).
			Then(clientv3.OpPut(l.key, l.owner, clientv3.WithLease(lease))).
			Else(clientv3.OpGet(l.key)).Commit()
		if err := cmp.Or(context.Cause(ctx), err); err != nil {
			return 0, fmt.Errorf("lock %s: %w", l.key, err)
		}
		if txn.Succeeded {
			return txn.Header.Revision, nil
		}
		// The condition did not hold, so the key is there.
		held := heldError{txn.Responses[0].GetResponseRange().Kvs[0]}
		if !wait {
			return 0, held
		}

		// A watch from the next revision misses no release. Whatever it says,
		// the next try will tell. It ends at once, and tells of no change, when
		// it is refused: without a pause, that would go on and on.
		fmt.Printf("%s waits: %v\n", l.owner, held)
		ctx, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
		w := <-client.Watch(ctx, l.key, clientv3.WithRev(txn.Header.Revision+1))
		if len(w.Events) == 0 {
			time.AfterFunc(time.Second, stop)
			<-ctx.Done()
		}
		stop()
	}
}
