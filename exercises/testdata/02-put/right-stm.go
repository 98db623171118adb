// Right: a software transaction, which compares all that it has read. Before that it
// asks etcd where the members are.
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

var id = flag.String("id", "", "")

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	if *id == "" {
		return errors.New("no -id")
	}
	if err := client.Sync(ctx); err != nil {
		return err
	}
	for tries := 0; ; tries++ {
		line := ""
		call, done := context.WithTimeout(ctx, 3*time.Second)
		_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
			if line = stm.Get("/visits/by/" + *id); line != "" {
				return nil
			}
			was := stm.Get("/visits")
			count, _ := strconv.Atoi(was)
			if was == "" {
				was = "nothing"
			}
			line = fmt.Sprintf("visits %d, was %s", count+1, was)
			stm.Put("/visits", strconv.Itoa(count+1))
			stm.Put("/visits/by/"+*id, line)
			return nil
		}, concurrency.WithAbortContext(call))
		done()
		if err == nil {
			fmt.Println(line)
			return nil
		}
		if tries > 50 || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}
