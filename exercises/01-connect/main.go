// Exercise 01: read a configuration of fifty keys.
//
//	go run ./exercises/01-connect
//
// It prints the values of the keys /config/00 to /config/49, one line for each,
// in order:
//
//	/config/00 -> "on"
//
// With status 0 all fifty were printed. When that is not possible, because a
// key is missing or no etcd answers, the status is 1, and standard error names
// the key or the endpoint. Whatever happens to etcd, before or meanwhile, the
// program has ended after 5 s, and 1 s after Ctrl-C. It opens at most two
// connections to a member.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

func main() { shared.Run(run) }

func run(ctx context.Context) error {
	for i := range 50 {
		key := fmt.Sprintf("/config/%02d", i)
		value, err := get(key)
		if err != nil {
			// Without it the program would go on with half of a configuration.
			fmt.Fprintf(os.Stderr, "get %s: %v\n", key, err)
			os.Exit(1)
		}
		fmt.Printf("%s -> %q\n", key, value)
	}
	return nil
}

// get connects to the etcd that the environment names, and reads one key.
func get(key string) (string, error) {
	config, err := shared.Config()
	if err != nil {
		return "", err
	}
	// How long it may take to connect is in config.DialTimeout.
	client, err := clientv3.New(*config)
	if err != nil {
		return "", err
	}
	defer client.Close()
	shared.Namespace(client)
	get, err := client.Get(context.Background(), key)
	if err != nil {
		return "", err
	}
	if get.Count == 0 {
		return "", errors.New("there is no such key")
	}
	return string(get.Kvs[0].Value), nil
}
