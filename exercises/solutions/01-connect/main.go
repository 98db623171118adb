// Solution 01: read a configuration of fifty keys.
//
//	go run ./exercises/solutions/01-connect
//
// New does not connect, so DialTimeout bounds no call: only the context does.
// The program's own context ends at Ctrl-C as well. A client is made once: each
// one has connections of its own. And os.Exit would skip all that is deferred,
// so errors are returned.
//
// One deadline for all would be enough to end in time. Each call has a shorter
// one too, so that a lost answer costs one more question, and not the
// configuration.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

func main() { shared.Run(run) }

func run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	config, err := shared.Config()
	if err != nil {
		return err
	}
	// Check says why no etcd answers. A call would only say that its time is
	// over.
	if err := shared.Check(ctx, config); err != nil {
		return err
	}
	client, err := clientv3.New(*config)
	if err != nil {
		return fmt.Errorf("create a client: %w", err)
	}
	defer client.Close()
	shared.Namespace(client)

	for i := range 50 {
		key := fmt.Sprintf("/config/%02d", i)
		value, err := read(ctx, client, key)
		if err != nil {
			return fmt.Errorf("get %s from %v: %w", key, config.Endpoints, err)
		}
		fmt.Printf("%s -> %q\n", key, value)
	}
	return nil
}

// read asks for a key, again and again until ctx ends. It changes nothing, so
// it may be asked twice.
func read(ctx context.Context, client *clientv3.Client, key string) (
	string, error) {
	for {
		call, done := context.WithTimeout(ctx, time.Second)
		get, err := client.Get(call, key)
		done()
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err != nil:
			time.Sleep(50 * time.Millisecond)
		case get.Count == 0:
			return "", errors.New("there is no such key")
		default:
			return string(get.Kvs[0].Value), nil
		}
	}
}
