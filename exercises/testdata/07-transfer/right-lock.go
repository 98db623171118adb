// Right: a lock makes the tries of these programs come one after the other. It
// proves nothing by itself, so the accounts are compared all the same.
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

var errNever = errors.New("too little money")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *id == "" || *from == "" || *to == "" || *from == *to || *amount < 1 {
		return errors.New("want an -id, two accounts and an -amount above 0")
	}
	for tries := 0; ; tries++ {
		err := try(ctx, client)
		if err == nil || errors.Is(err, errNever) || ctx.Err() != nil || tries > 100 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func try(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	lease, err := client.Grant(ctx, 5)
	if err != nil {
		return err
	}
	session, err := concurrency.NewSession(client, concurrency.WithLease(lease.ID), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "/bank/lock/")
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	receipt := "/bank/transfers/" + *id
	payer, payee := "/bank/accounts/"+*from, "/bank/accounts/"+*to
	get, err := client.Txn(ctx).Then(clientv3.OpGet(receipt), clientv3.OpGet(payer), clientv3.OpGet(payee)).Commit()
	if err != nil {
		return err
	}
	if get.Responses[0].GetResponseRange().Count > 0 {
		return nil
	}
	var balance [3]int
	var revision [3]int64
	for i := 1; i <= 2; i++ {
		for _, kv := range get.Responses[i].GetResponseRange().Kvs {
			balance[i], _ = strconv.Atoi(string(kv.Value))
			revision[i] = kv.ModRevision
		}
	}
	if balance[1] < *amount {
		return fmt.Errorf("%w: %d", errNever, balance[1])
	}
	txn, err := client.Txn(ctx).
		If(mutex.IsOwner(),
			clientv3.Compare(clientv3.ModRevision(payer), "=", revision[1]),
			clientv3.Compare(clientv3.ModRevision(payee), "=", revision[2])).
		Then(clientv3.OpPut(payer, strconv.Itoa(balance[1]-*amount)),
			clientv3.OpPut(payee, strconv.Itoa(balance[2]+*amount)),
			clientv3.OpPut(receipt, "made")).Commit()
	if err == nil && !txn.Succeeded {
		err = errors.New("refused")
	}
	return err
}
