// Right: it compares the value, and prints what PrevKv says, when there is one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var id = flag.String("id", "", "")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) (err error) {
	if *id == "" {
		return errors.New("no -id")
	}
	receipt := "/visits/by/" + *id
	same, count, was := clientv3.Compare(clientv3.Version("/visits"), "=", 0), 0, "nothing"
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		call, done := context.WithTimeout(ctx, time.Second)
		var txn *clientv3.TxnResponse
		txn, err = client.Txn(call).
			If(same, clientv3.Compare(clientv3.Version(receipt), "=", 0)).
			Then(clientv3.OpPut("/visits", strconv.Itoa(count+1), clientv3.WithPrevKV()),
				clientv3.OpPut(receipt, fmt.Sprintf("visits %d, was %s", count+1, was))).
			Else(clientv3.OpGet("/visits"), clientv3.OpGet(receipt)).
			Commit()
		done()
		if err != nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if txn.Succeeded {
			was := "nothing"
			if kv := txn.Responses[0].GetResponsePut().PrevKv; kv != nil {
				was = string(kv.Value)
			}
			fmt.Printf("visits %d, was %s\n", count+1, was)
			return nil
		}
		if kvs := txn.Responses[1].GetResponseRange().Kvs; len(kvs) > 0 {
			fmt.Println(string(kvs[0].Value))
			return nil
		}
		same, count, was = clientv3.Compare(clientv3.Version("/visits"), "=", 0), 0, "nothing"
		if kvs := txn.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			was = string(kvs[0].Value)
			same = clientv3.Compare(clientv3.Value("/visits"), "=", was)
			if count, err = strconv.Atoi(was); err != nil {
				return err
			}
		}
	}
	return err
}
