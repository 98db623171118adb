// Lesson 07: operations as values, transactions, and the optimistic update.
//
//	go run ./07-op
package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const job1 = "/cron/jobs/op/job1"
const hosts = "/cron/jobs/op/hosts"

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// An Op says what to do; nothing happens until Do sends it.
	fmt.Println("One by one, each change is a revision:")
	for _, op := range []clientv3.Op{
		clientv3.OpPut(job1, "hello"),
		clientv3.OpGet(job1),
		clientv3.OpDelete(job1),
	} {
		answer, err := client.Do(ctx, op)
		if err != nil {
			return fmt.Errorf("do an operation on %s: %w", op.KeyBytes(), err)
		}
		// Just the response that fits the operation is there.
		switch {
		case op.IsPut():
			fmt.Println("  put    @", answer.Put().Header.Revision)
		case op.IsGet():
			fmt.Println("  get    @", answer.Get().Header.Revision)
		case op.IsDelete():
			fmt.Println("  delete @", answer.Del().Header.Revision)
		}
	}

	// A transaction without If always does what Then says. A key may be changed
	// only once in it.
	fmt.Println("In one transaction, all changes are one revision:")
	txn, err := client.Txn(ctx).Then(clientv3.OpPut(job1, "run daily"),
		clientv3.OpPut(hosts, "host1"), clientv3.OpGet(hosts)).Commit()
	if err != nil {
		return fmt.Errorf("put %s and %s together: %w", job1, hosts, err)
	}
	put := txn.Responses[1].GetResponsePut()
	fmt.Printf("  put %s @ %d\n", hosts, put.Header.Revision)
	for _, kv := range txn.Responses[2].GetResponseRange().Kvs {
		fmt.Printf("  get %s @ %d -> %q\n", kv.Key, kv.ModRevision, kv.Value)
	}

	fmt.Println("Change what was read, if it is still the same:")
	return addHost(ctx, client)
}

// addHost adds a name to a list that others change as well. It writes only if
// nobody has written since it read the list. Otherwise it begins again.
func addHost(ctx context.Context, client *clientv3.Client) error {
	disturbed := false
	for {
		get, err := client.Get(ctx, hosts)
		if err != nil {
			return fmt.Errorf("get %s: %w", hosts, err)
		}
		// A key that is not there has the mod revision 0.
		list, revision := "", int64(0)
		for _, kv := range get.Kvs {
			list, revision = string(kv.Value), kv.ModRevision
		}
		fmt.Printf("  read  %q @ %d\n", list, revision)

		// Another writer comes between the read and the write, once.
		if !disturbed {
			disturbed = true
			if _, err := client.Put(ctx, hosts, list+" host2"); err != nil {
				return fmt.Errorf("put %s as another writer: %w", hosts, err)
			}
		}

		txn, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(hosts), "=", revision)).
			Then(clientv3.OpPut(hosts, list+" host3")).
			Commit()
		if err != nil {
			return fmt.Errorf("put %s: %w", hosts, err)
		}
		if txn.Succeeded {
			fmt.Printf("  wrote %q @ %d\n", list+" host3", txn.Header.Revision)
			return nil
		}
		fmt.Printf("  refused: it is no longer @ %d\n", revision)
	}
}
