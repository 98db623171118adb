#!/bin/sh
# A stream of answers begins with 10 keys and doubles that with each message, as long as a
# message stays below half of --max-request-bytes: there is no option for the size. Count is
# in the last message alone.
#
# Version: go.etcd.io/etcd/client/v3 and server/v3 v3.7.3, which is the first minor release
# that has GetStream; Go 1.26. The documentation of GetStream names no size, and WithLimit
# bounds the keys of the stream, not those of a message.
#
# Seen, for 1,000 keys of 5 bytes:
#   keys: [10 20 40 80 160 320 370]
#   counts: [0 0 0 0 0 0 1000]
#   with a limit of 100, keys: [10 20 40 30]
#
# For us: who wants pages of at most 100 keys reads pages of a stream too, each with a
# limit; the judge of exercise 03 counts the keys of each message.
set -eu
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
export GOWORK=off GOFLAGS=-mod=mod
cat >go.mod <<'MOD'
module example.com/stream

go 1.26

require (
	go.etcd.io/etcd/client/v3 v3.7.3
	go.etcd.io/etcd/server/v3 v3.7.3
	go.uber.org/zap v1.27.1
)
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"log"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	config := embed.NewConfig()
	config.Dir = os.Args[1]
	config.LogLevel = "fatal"
	config.UnsafeNoFsync = true
	free := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config.ListenClientUrls, config.ListenPeerUrls = []url.URL{free}, []url.URL{free}
	etcd, err := embed.StartEtcd(config)
	check(err)
	defer etcd.Close()
	<-etcd.Server.ReadyNotify()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{etcd.Clients[0].Addr().String()}, Logger: zap.NewNop()})
	check(err)
	defer client.Close()
	for i := range 1000 {
		_, err := client.Put(ctx, fmt.Sprintf("k%04d", i), "value")
		check(err)
	}
	keys, counts := sizes(ctx, client)
	fmt.Println("keys:", keys)
	fmt.Println("counts:", counts)
	keys, _ = sizes(ctx, client, clientv3.WithLimit(100))
	fmt.Println("with a limit of 100, keys:", keys)
}

// sizes returns how many keys the messages of a stream have, and which Count.
func sizes(ctx context.Context, client *clientv3.Client, options ...clientv3.OpOption) (keys []int, counts []int64) {
	stream, err := client.GetStream(ctx, "k", append(options, clientv3.WithPrefix())...)
	check(err)
	for response := range stream {
		check(response.Err())
		keys = append(keys, len(response.RangeResponse.Kvs))
		counts = append(counts, response.RangeResponse.Count)
	}
	return keys, counts
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
GO
go mod tidy >/dev/null 2>&1
go run . data >seen
cat seen
cat >described <<'TEXT'
keys: [10 20 40 80 160 320 370]
counts: [0 0 0 0 0 0 1000]
with a limit of 100, keys: [10 20 40 30]
TEXT
diff seen described
echo "as described"
