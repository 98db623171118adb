// refused: payer, payee
//
// Wrong: a lock with a long lease, and no condition. Who does not take the lock is
// not kept out, and a lock may be lost.
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

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *id == "" || *from == "" || *to == "" || *from == *to || *amount < 1 {
		return errors.New("want an -id, two accounts and an -amount above 0")
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(60), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "/bank/lock/")
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	var balance [2]int
	for i, name := range []string{*from, *to} {
		get, err := client.Get(ctx, "/bank/accounts/"+name)
		if err != nil {
			return err
		}
		for _, kv := range get.Kvs {
			balance[i], _ = strconv.Atoi(string(kv.Value))
		}
	}
	if balance[0] < *amount {
		return fmt.Errorf("%s has %d", *from, balance[0])
	}
	_, err = client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision("/bank/transfers/"+*id), "=", 0)).
		Then(clientv3.OpPut("/bank/accounts/"+*from, strconv.Itoa(balance[0]-*amount)),
			clientv3.OpPut("/bank/accounts/"+*to, strconv.Itoa(balance[1]+*amount)),
			clientv3.OpPut("/bank/transfers/"+*id, "made")).Commit()
	return err
}
