// Lesson 01: connect to etcd, and see what a client is.
//
//	go run ./01-connect
//
// Where etcd is comes from the variables that etcdctl reads as well, such as
// ETCDCTL_ENDPOINTS. The other lessons leave the connection to shared.Main.
package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

const key = "/cron/jobs/job1"

func main() { shared.Run(run) }

func run(ctx context.Context) error {
	config, err := shared.Config()
	if err != nil {
		return err
	}
	fmt.Println("endpoints:", config.Endpoints)

	// New does not wait for etcd, so it cannot say whether one is there. Check
	// asks, over a connection of its own. Without it, the first call would wait
	// until its deadline and not say why.
	if err := shared.Check(ctx, config); err != nil {
		return err
	}
	client, err := clientv3.New(*config)
	if err != nil {
		return fmt.Errorf("create a client: %w", err)
	}
	defer client.Close()
	shared.Namespace(client)
	connection := client.ActiveConnection()
	fmt.Println("after New the connection is", connection.GetState())

	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	get, err := client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	fmt.Println("after Get the connection is", connection.GetState())
	fmt.Printf("get %s: count %d, the store is at revision %d\n",
		key, get.Count, get.Header.Revision)

	if err := count(ctx, client.KV); err != nil {
		return err
	}
	return members(ctx, client)
}

// count takes just the part of the client that it needs. A client is made of
// such parts: client.Get is the Get of client.KV, client.Status that of
// client.Maintenance, client.MemberList that of client.Cluster.
func count(ctx context.Context, kv clientv3.KV) error {
	jobs, err := kv.Get(ctx, "/cron/jobs/",
		clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("count the keys of /cron/jobs/: %w", err)
	}
	fmt.Println("keys under /cron/jobs/:", jobs.Count)
	return nil
}

// members prints what each endpoint says of itself, and which members there
// are. An endpoint that does not answer is no error: the client goes on with
// the others.
func members(ctx context.Context, client *clientv3.Client) error {
	for _, endpoint := range client.Endpoints() {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		status, err := client.Status(ask, endpoint)
		cancel()
		if err != nil {
			fmt.Printf("%s does not answer: %v\n", endpoint, err)
			continue
		}
		id := status.Header.MemberId
		fmt.Printf("%s is member %016x, etcd %s\n",
			endpoint, id, status.Version)
		fmt.Printf("  leader %t, raft term %d, revision %d\n",
			id == status.Leader, status.RaftTerm, status.Header.Revision)
	}
	list, err := client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list the members: %w", err)
	}
	for _, member := range list.Members {
		fmt.Printf("member %016x is %s, for clients at %v\n",
			member.ID, member.Name, member.ClientURLs)
	}
	return nil
}
