// Right: all fifty at the same time, through one client.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

func main() { shared.Run(run) }

func run(ctx context.Context) error {
	config, err := shared.Config()
	if err != nil {
		return err
	}
	client, err := clientv3.New(*config)
	if err != nil {
		return err
	}
	defer client.Close()
	shared.Namespace(client)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()

	var lines [50]string
	var errs [50]error
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			key := fmt.Sprintf("/config/%02d", i)
			get, err := client.Get(ctx, key)
			if err == nil && len(get.Kvs) == 0 {
				err = errors.New("it is not there")
			}
			if err != nil {
				errs[i] = fmt.Errorf("%s at %v: %w", key, config.Endpoints, err)
				cancel()
				return
			}
			lines[i] = fmt.Sprintf("%s -> %q", key, get.Kvs[0].Value)
		})
	}
	all.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	for _, line := range lines {
		fmt.Println(line)
	}
	return nil
}
