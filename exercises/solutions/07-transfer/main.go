// Solution 07: move money from one account to another, once.
//
//	go run ./exercises/solutions/07-transfer \
//		-id t1 -from alice -to bob -amount 10
//
// A transaction is all or nothing, but without a condition it writes balances
// that may be out of date. So it has three: the payer's account is as it was
// read, the payee's as well, and there is no receipt.
//
// With these it may be sent again after any error. A first try that has
// happened left the receipt. One that is still on its way comes too late, as
// soon as another counts. To look at the balance instead of the receipt would
// not do: somebody else may have restored it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

var (
	id     = flag.String("id", "", "the `name` of the transfer")
	from   = flag.String("from", "", "the account of this `name` pays")
	to     = flag.String("to", "", "the account of this `name` gets it")
	amount = flag.Int("amount", 0, "this `number` is moved")
)

// errNever says that no try, also none from before, can succeed any more.
var errNever = errors.New("never made")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *id == "" || *from == "" || *to == "" || *from == *to || *amount < 1 {
		return errors.New("want an -id, two accounts and an -amount above 0")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		made, err := try(ctx, client)
		switch {
		case made:
			return nil
		case errors.Is(err, errNever):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("%s may have been made, or not: %w", *id, err)
		case err != nil:
			fmt.Println("asking again:", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// try says whether the transfer is made. False without an error means that
// somebody changed an account in between.
func try(ctx context.Context, client *clientv3.Client) (bool, error) {
	// One lost call must not use up the time of all.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	receipt := "/bank/transfers/" + *id
	payer, payee := "/bank/accounts/"+*from, "/bank/accounts/"+*to

	// One transaction reads all three, so they are of the same moment.
	read, err := client.Txn(ctx).Then(clientv3.OpGet(receipt),
		clientv3.OpGet(payer), clientv3.OpGet(payee)).Commit()
	if err != nil {
		return false, fmt.Errorf("read the accounts: %w", err)
	}
	if read.Responses[0].GetResponseRange().Count > 0 {
		fmt.Printf("%s was made\n", *id)
		return true, nil
	}
	has, payerAt, err := balance(read.Responses[1].GetResponseRange())
	if err != nil {
		return false, err
	}
	other, payeeAt, err := balance(read.Responses[2].GetResponseRange())
	if err != nil {
		return false, err
	}
	// There is no receipt, and the payer's account is not what it was for any
	// try before, so none of them can happen any more.
	if has < *amount {
		return false, fmt.Errorf("%s is %w: %s has %d",
			*id, errNever, *from, has)
	}

	// A key that is not there has the create and the mod revision 0.
	txn, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(receipt), "=", 0),
			clientv3.Compare(clientv3.ModRevision(payer), "=", payerAt),
			clientv3.Compare(clientv3.ModRevision(payee), "=", payeeAt)).
		Then(clientv3.OpPut(payer, strconv.Itoa(has-*amount)),
			clientv3.OpPut(payee, strconv.Itoa(other+*amount)),
			clientv3.OpPut(receipt, fmt.Sprintf("%d from %s to %s",
				*amount, *from, *to))).
		Commit()
	if err != nil {
		return false, fmt.Errorf("make %s: %w", *id, err)
	}
	if txn.Succeeded {
		fmt.Printf("%s was made @ %d\n", *id, txn.Header.Revision)
	}
	return txn.Succeeded, nil
}

// balance returns what an account holds, and its mod revision.
func balance(get *pb.RangeResponse) (int, int64, error) {
	if len(get.Kvs) == 0 {
		return 0, 0, nil
	}
	kv := get.Kvs[0]
	has, err := strconv.Atoi(string(kv.Value))
	if err != nil {
		err = fmt.Errorf("%w: read %s: %w", errNever, kv.Key, err)
	}
	return has, kv.ModRevision, err
}
