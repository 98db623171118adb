// Concurrency does what README.md shows of the client's package of that name.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"example.com/etcd-by-example/shared"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	client, err := shared.Connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()

	session, err := concurrency.NewSession(client, concurrency.WithTTL(5))
	if err != nil {
		return fmt.Errorf("start a session: %w", err)
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "/cron/lock/job9")
	if err := mutex.Lock(ctx); err != nil {
		return fmt.Errorf("lock /cron/lock/job9: %w", err)
	}
	txn, err := client.Txn(ctx).If(mutex.IsOwner()).
		Then(clientv3.OpPut("/cron/jobs/job9", "done")).Commit()
	if err == nil && !txn.Succeeded {
		err = errors.New("the lock was lost")
	}
	if err != nil {
		return fmt.Errorf("put /cron/jobs/job9: %w", err)
	}
	fmt.Println("put /cron/jobs/job9 as the owner of the lock")
	return mutex.Unlock(ctx)
}
