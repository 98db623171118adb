// Right: shared.Main does what there is to do, and one question brings all fifty.
package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

func main() { shared.Main(run) }

func run(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
	defer cancel()
	get, err := client.Get(ctx, "/config/00", clientv3.WithRange("/config/5"))
	if err != nil {
		return fmt.Errorf("%v: %w", client.Endpoints(), err)
	}
	values := map[string]string{}
	for _, kv := range get.Kvs {
		values[string(kv.Key)] = string(kv.Value)
	}
	for i := range 50 {
		key := fmt.Sprintf("/config/%02d", i)
		value, ok := values[key]
		if !ok {
			return fmt.Errorf("there is no %s", key)
		}
		fmt.Printf("%s -> %q\n", key, value)
	}
	return nil
}
