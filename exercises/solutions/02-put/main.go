// Solution 02: count a visit, once.
//
//	go run ./exercises/solutions/02-put -id ann
//
// After an error the put may have happened, or not, or it may happen later. To
// put again may count twice, and a look before it settles nothing: the first
// put may arrive after the look. So each write has conditions from the start,
// and of all the tries one counts: the number is the one that was read, and
// there is no receipt. The number alone would not do: another may have counted
// in between, and a try that has happened would not be known any more.
//
// With the conditions the write replaces what was read, and nothing else. So
// the line is known before it, and PrevKv, which is nil for a new key, is not
// needed.
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
	for {
		line, err := visit(ctx, client, key+"/by/"+*id)
		switch {
		case line != "":
			fmt.Println(line)
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("the visit may be counted, or not: %w", err)
		case err != nil:
			fmt.Fprintln(os.Stderr, "asking again:", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// visit returns the line of the receipt, or of the one that it has put. An
// empty line without an error means that another has counted in between.
func visit(ctx context.Context, client *clientv3.Client, receipt string) (
	string, error) {
	// One lost call must not use up the time of all.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// Both are of the same moment.
	read, err := client.Txn(ctx).
		Then(clientv3.OpGet(receipt), clientv3.OpGet(key)).Commit()
	if err != nil {
		return "", fmt.Errorf("get %s: %w", key, err)
	}
	for _, kv := range read.Responses[0].GetResponseRange().Kvs {
		return string(kv.Value), nil
	}
	// A key that is not there has the mod revision 0.
	count, was, revision := 0, "nothing", int64(0)
	for _, kv := range read.Responses[1].GetResponseRange().Kvs {
		was, revision = string(kv.Value), kv.ModRevision
		count, err = strconv.Atoi(was)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", key, err)
		}
	}

	line := fmt.Sprintf("visits %d, was %s", count+1, was)
	txn, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision),
			clientv3.Compare(clientv3.CreateRevision(receipt), "=", 0)).
		Then(clientv3.OpPut(key, strconv.Itoa(count+1)),
			clientv3.OpPut(receipt, line)).
		Commit()
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	if !txn.Succeeded {
		return "", nil
	}
	return line, nil
}
