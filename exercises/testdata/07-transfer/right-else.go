// Right: it begins with a guess. Each refused transaction brings, in its Else, all
// that the next one needs. An error repeats the same transaction: at most one of
// them counts, and the one that is refused tells whether an earlier one did.
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
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	keys := []string{"/bank/accounts/" + *from, "/bank/accounts/" + *to, "/bank/transfers/" + *id}
	var gets []clientv3.Op
	for _, key := range keys {
		gets = append(gets, clientv3.OpGet(key))
	}
	has := [2]int{}
	at := [3]int64{-1} // No key has this mod revision.
	for {
		var ifs []clientv3.Cmp
		for i, key := range keys {
			ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(key), "=", at[i]))
		}
		call, done := context.WithTimeout(ctx, 2*time.Second)
		txn, err := client.Txn(call).If(ifs...).Then(
			clientv3.OpPut(keys[0], strconv.Itoa(has[0]-*amount)),
			clientv3.OpPut(keys[1], strconv.Itoa(has[1]+*amount)),
			clientv3.OpPut(keys[2], fmt.Sprint(*amount)),
		).Else(gets...).Commit()
		done()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			time.Sleep(100 * time.Millisecond)
			continue
		case txn.Succeeded:
			return nil
		}
		for i, answer := range txn.Responses {
			kvs := answer.GetResponseRange().Kvs
			switch {
			case len(kvs) == 0:
				at[i] = 0
				if i < 2 {
					has[i] = 0
				}
			case i == 2:
				return nil // The receipt is there.
			default:
				at[i] = kvs[0].ModRevision
				if has[i], err = strconv.Atoi(string(kvs[0].Value)); err != nil {
					return err
				}
			}
		}
		if has[0] < *amount {
			return fmt.Errorf("%s has %d, %d are needed", *from, has[0], *amount)
		}
	}
}
