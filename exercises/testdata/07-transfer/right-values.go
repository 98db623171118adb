// Right: it compares the values of the accounts, and the receipt. That a balance
// was another in between does no harm: it is the one that was read.
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

var (
	id     = flag.String("id", "", "the `name` of the transfer")
	from   = flag.String("from", "", "the account of this `name` pays")
	to     = flag.String("to", "", "the account of this `name` gets it")
	amount = flag.Int64("amount", 0, "this `number` is moved")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *id == "" || *from == "" || *to == "" || *from == *to || *amount < 1 {
		return errors.New("want an -id, two accounts and an -amount above 0")
	}
	var last error
	for end := time.Now().Add(25 * time.Second); time.Now().Before(end); {
		never, err := try(ctx, client)
		if err == nil || never || ctx.Err() != nil {
			return err
		}
		last = err
		fmt.Fprintln(os.Stderr, err)
		time.Sleep(20 * time.Millisecond)
	}
	return last
}

func try(ctx context.Context, client *clientv3.Client) (never bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	receipt := "/bank/transfers/" + *id
	payer, payee := "/bank/accounts/"+*from, "/bank/accounts/"+*to

	has, ifPayer, err := read(ctx, client, payer)
	if err != nil {
		return false, err
	}
	other, ifPayee, err := read(ctx, client, payee)
	if err != nil {
		return false, err
	}
	// The receipt comes last: a try that was made before it is seen here.
	get, err := client.Get(ctx, receipt)
	if err != nil || get.Count > 0 {
		return false, err
	}
	if has < *amount {
		return true, fmt.Errorf("%s has only %d", *from, has)
	}
	txn, err := client.Txn(ctx).
		If(ifPayer, ifPayee, clientv3.Compare(clientv3.Version(receipt), "=", 0)).
		Then(clientv3.OpPut(payer, strconv.FormatInt(has-*amount, 10)),
			clientv3.OpPut(payee, strconv.FormatInt(other+*amount, 10)),
			clientv3.OpPut(receipt, time.Now().Format(time.RFC3339))).
		Commit()
	if err == nil && !txn.Succeeded {
		err = errors.New("somebody was faster")
	}
	return false, err
}

// read returns a balance, and the condition that it is still the same.
func read(ctx context.Context, client *clientv3.Client, key string) (int64, clientv3.Cmp, error) {
	get, err := client.Get(ctx, key)
	if err != nil || get.Count == 0 {
		return 0, clientv3.Compare(clientv3.CreateRevision(key), "=", 0), err
	}
	value := string(get.Kvs[0].Value)
	has, err := strconv.ParseInt(value, 10, 64)
	return has, clientv3.Compare(clientv3.Value(key), "=", value), err
}
