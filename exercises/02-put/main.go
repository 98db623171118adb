// Exercise 02: count a visit, once.
//
//	go tool etcdctl put /visits 41
//	go run ./exercises/02-put -id ann
//
// It adds one to the number at the key /visits, and prints one line, with the
// number that it has put and the value that it has replaced:
//
//	visits 42, was 41
//	visits 1, was nothing
//
// The same line is put at /visits/by/ID, in the same revision: the receipt. For
// an id that has a receipt nothing is changed, and the receipt is printed. So
// each id counts once, also when a call or its answer gets lost, or comes late,
// and when others count at the same time. As long as etcd is back within 10 s,
// the status is 0. Lesson 07 has what that takes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const key = "/visits"

var id = flag.String("id", "", "who visits: this `name` counts once")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *id == "" {
		return errors.New("want an -id")
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	receipt := key + "/by/" + *id
	get, err := client.Get(ctx, receipt)
	if err != nil {
		return fmt.Errorf("get %s: %w", receipt, err)
	}
	if get.Count > 0 {
		fmt.Printf("%s\n", get.Kvs[0].Value)
		return nil
	}
	// A call may get lost, so it is tried until it is done.
	for {
		err := visit(ctx, client, receipt)
		if err == nil || ctx.Err() != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "trying again:", err)
		time.Sleep(100 * time.Millisecond)
	}
}

// visit puts the next number and the receipt, and prints what was replaced.
func visit(ctx context.Context, client *clientv3.Client, receipt string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	get, err := client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	count, was := 0, "nothing"
	if get.Count > 0 {
		was = string(get.Kvs[0].Value)
		count, err = strconv.Atoi(was)
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
	}
	line := fmt.Sprintf("visits %d, was %s", count+1, was)
	// Both puts are one revision: there is no visit without its receipt.
	txn, err := client.Txn(ctx).Then(
		clientv3.OpPut(key, strconv.Itoa(count+1), clientv3.WithPrevKV()),
		clientv3.OpPut(receipt, line)).Commit()
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	put := txn.Responses[0].GetResponsePut()
	fmt.Printf("visits %d, was %s\n", count+1, put.PrevKv.Value)
	return nil
}
