package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"example.com/etcd-by-example/shared"
)

// TestContend runs the lesson again and again, in one goroutine for each list of
// endpoints in CONTEND_ENDPOINTS, until standard input ends. What its
// transactions asked, and what came back, goes to the file CONTEND_HISTORY.
func TestContend(t *testing.T) {
	ctx, stop := untilStdinEnds(t)
	defer stop()
	file, err := os.OpenFile(os.Getenv("CONTEND_HISTORY"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	config, err := shared.Config()
	if err != nil {
		t.Fatal(err)
	}

	var contenders sync.WaitGroup
	for i, endpoints := range strings.Split(os.Getenv("CONTEND_ENDPOINTS"), ";") {
		contender := fmt.Sprint(*name, "-", i)
		config := *config
		config.Endpoints = strings.Split(endpoints, ",")
		config.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, request, answer any,
				conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
				start := time.Now()
				err := invoke(ctx, method, request, answer, conn, options...)
				if txn, ok := request.(*pb.TxnRequest); ok {
					turn := describe(txn, answer.(*pb.TxnResponse), err)
					turn.Contender = contender
					turn.Start, turn.End = start.UnixNano(), time.Now().UnixNano()
					line, _ := json.Marshal(turn)
					file.Write(append(line, '\n')) // One call, so that no line is torn.
				}
				return err
			})}
		client, err := clientv3.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		contenders.Go(func() {
			for ctx.Err() == nil {
				run(ctx, client) // Losing the lock, or etcd, is part of the game.
			}
		})
	}
	contenders.Wait()
}

// turn is a transaction of the lesson, as the tests read it.
type turn struct {
	Contender  string
	Start, End int64 // nanoseconds since 1970
	Kind       string
	Token      int64  // what was got, or what was written with
	Outcome    string // "ok", "refused" or "unknown"
}

// describe tells what a transaction of the lesson did. The result that is to be
// written holds the token.
func describe(request *pb.TxnRequest, answer *pb.TxnResponse, err error) turn {
	put := request.Success[0].GetRequestPut()
	c := turn{Kind: "lock", Outcome: "ok"}
	if string(put.Key) == resultKey {
		c.Kind = "write"
		_, token, _ := strings.Cut(string(put.Value), ", token ")
		c.Token, _ = strconv.ParseInt(token, 10, 64)
	}
	switch {
	case err != nil:
		c.Outcome = "unknown"
	case !answer.Succeeded:
		c.Outcome = "refused"
	case c.Kind == "lock":
		c.Token = answer.Header.Revision
	}
	return c
}
