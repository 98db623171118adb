// Lesson 07: operations as values: one by one, or several in a transaction.
//
//	go run ./07-op
package main

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const (
	job1 = "/cron/jobs/op/job1"
	job2 = "/cron/jobs/op/job2"
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	for _, key := range []string{job1, job2} {
		if _, err := client.Delete(ctx, key); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}

	// An Op says what to do; nothing happens until Do sends it.
	fmt.Println("One by one, each change is a revision:")
	ops := []clientv3.Op{
		clientv3.OpPut(job1, "hello"),
		clientv3.OpGet(job1),
		clientv3.OpDelete(job1),
		clientv3.OpGet(job1),
	}
	for _, op := range ops {
		answer, err := client.Do(ctx, op)
		if err != nil {
			return fmt.Errorf("do an operation on %s: %w", op.KeyBytes(), err)
		}
		// Just the response that fits the operation is there.
		switch {
		case answer.Put() != nil:
			fmt.Println("  put    @", answer.Put().Header.Revision)
		case answer.Get() != nil:
			fmt.Printf("  get    @ %d, count %d\n",
				answer.Get().Header.Revision, answer.Get().Count)
		case answer.Del() != nil:
			fmt.Printf("  delete @ %d, deleted %d\n",
				answer.Del().Header.Revision, answer.Del().Deleted)
		}
	}

	// A transaction with no condition always takes its first branch. A key may
	// be changed only once in it.
	fmt.Println("In one transaction, all changes are one revision:")
	answer, err := client.Do(ctx, clientv3.OpTxn(nil, []clientv3.Op{
		clientv3.OpPut(job1, "hello"),
		clientv3.OpPut(job2, "world"),
		clientv3.OpGet("/cron/jobs/op/", clientv3.WithPrefix()),
	}, nil))
	if err != nil {
		return fmt.Errorf("put %s and %s together: %w", job1, job2, err)
	}
	fmt.Println("  transaction @", answer.Txn().Header.Revision)
	for _, response := range answer.Txn().Responses {
		switch response := response.Response.(type) {
		case *pb.ResponseOp_ResponsePut:
			fmt.Println("  put")
		case *pb.ResponseOp_ResponseRange:
			for _, kv := range response.ResponseRange.Kvs {
				fmt.Printf("  get %s @ %d -> %q\n",
					kv.Key, kv.ModRevision, kv.Value)
			}
		}
	}
	return nil
}
