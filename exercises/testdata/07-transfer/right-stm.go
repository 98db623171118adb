// Right: a software transaction of the client's package concurrency. It compares
// what it has read, the receipt too, and begins again when that has changed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"example.com/etcd-by-example/shared"
)

var (
	id     = flag.String("id", "", "the `name` of the transfer")
	from   = flag.String("from", "", "the account of this `name` pays")
	to     = flag.String("to", "", "the account of this `name` gets it")
	amount = flag.Int("amount", 0, "this `number` is moved")
)

var errPoor = errors.New("too little money")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *id == "" || *from == "" || *to == "" || *from == *to || *amount < 1 {
		return errors.New("want an -id, two accounts and an -amount above 0")
	}
	end := time.Now().Add(30 * time.Second)
	for {
		call, done := context.WithTimeout(ctx, 3*time.Second)
		_, err := concurrency.NewSTM(client, transfer, concurrency.WithAbortContext(call))
		done()
		if err == nil || errors.Is(err, errPoor) || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func transfer(stm concurrency.STM) error {
	receipt := "/bank/transfers/" + *id
	if stm.Get(receipt) != "" {
		return nil
	}
	payer, payee := "/bank/accounts/"+*from, "/bank/accounts/"+*to
	has, _ := strconv.Atoi(stm.Get(payer))
	other, _ := strconv.Atoi(stm.Get(payee))
	if has < *amount {
		return fmt.Errorf("%s: %w", *from, errPoor)
	}
	stm.Put(payer, strconv.Itoa(has-*amount))
	stm.Put(payee, strconv.Itoa(other+*amount))
	stm.Put(receipt, strconv.Itoa(*amount))
	return nil
}
