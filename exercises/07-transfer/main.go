// Exercise 07: move money from one account to another, once.
//
//	go run ./exercises/07-transfer -id t1 -from alice -to bob -amount 10
//
// The key /bank/accounts/NAME holds what NAME has, a decimal number. Who has no
// such key has 0. The transfer leaves a receipt at /bank/transfers/ID: it says
// that the transfer was made, and need not be made again.
//
// The status is 0 if the transfer was made, now or before, and 1 if it was not
// and never will be, because there is too little money. Nobody's balance is
// ever below 0. Others change the same accounts in the meantime, and calls and
// answers get lost. As long as etcd is back within 10 s, the program finds out.
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

var (
	id     = flag.String("id", "", "the `name` of the transfer")
	from   = flag.String("from", "", "the account of this `name` pays")
	to     = flag.String("to", "", "the account of this `name` gets it")
	amount = flag.Int("amount", 0, "this `number` is moved")
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *id == "" || *from == "" || *to == "" || *from == *to || *amount < 1 {
		return errors.New("want an -id, two accounts and an -amount above 0")
	}
	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	receipt := "/bank/transfers/" + *id
	get, err := client.Get(ctx, receipt)
	if err != nil {
		return fmt.Errorf("get %s: %w", receipt, err)
	}
	if get.Count > 0 {
		fmt.Printf("%s was made before\n", *id)
		return nil
	}
	payer, payee := "/bank/accounts/"+*from, "/bank/accounts/"+*to
	has, err := balance(ctx, client, payer)
	if err != nil {
		return err
	}
	if has < *amount {
		return fmt.Errorf("%s: %s has %d, too little", *id, *from, has)
	}
	other, err := balance(ctx, client, payee)
	if err != nil {
		return err
	}

	// In one transaction all is done or nothing: no money is lost on its way.
	txn, err := client.Txn(ctx).Then(
		clientv3.OpPut(payer, strconv.Itoa(has-*amount)),
		clientv3.OpPut(payee, strconv.Itoa(other+*amount)),
		clientv3.OpPut(receipt, fmt.Sprintf("%d from %s to %s",
			*amount, *from, *to)),
	).Commit()
	if err != nil {
		return fmt.Errorf("make %s: %w", *id, err)
	}
	fmt.Printf("%s was made @ %d\n", *id, txn.Header.Revision)
	return nil
}

// balance reads an account.
func balance(ctx context.Context, client *clientv3.Client, key string) (
	int, error) {
	get, err := client.Get(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", key, err)
	}
	if get.Count == 0 {
		return 0, nil
	}
	return strconv.Atoi(string(get.Kvs[0].Value))
}
