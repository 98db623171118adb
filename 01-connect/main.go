// Lesson 01: connect to etcd, and see what a client is.
//
//	go run ./01-connect
//
// Where etcd is comes from the variables that etcdctl reads as well, such as
// ETCDCTL_ENDPOINTS. The other lessons leave all of this to shared.Main.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	fmt.Println("endpoints:", config.Endpoints)

	// New does not connect, so it cannot say whether an etcd is there. Check
	// asks, over a connection of its own; without it, the first call would wait
	// until its deadline.
	if err := shared.Check(ctx, config); err != nil {
		return err
	}
	client, err := clientv3.New(*config)
	if err != nil {
		return fmt.Errorf("create a client: %w", err)
	}
	defer client.Close()
	connection := client.ActiveConnection()
	fmt.Println("New returned; the connection is", connection.GetState())

	// A call without a deadline may wait for ever. These all share one.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// A view is one part of the API. All views share the client's connection,
	// which the first call opens.
	kv := clientv3.NewKV(client)
	jobs, err := kv.Get(ctx, "/cron/jobs/",
		clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("count the keys of /cron/jobs/: %w", err)
	}
	fmt.Println("KV: keys under /cron/jobs/:", jobs.Count)
	fmt.Println("the connection is", connection.GetState())

	lease := clientv3.NewLease(client)
	defer lease.Close()
	leases, err := lease.Leases(ctx)
	if err != nil {
		return fmt.Errorf("list the leases: %w", err)
	}
	fmt.Println("Lease: living leases:", len(leases.Leases))

	watcher := clientv3.NewWatcher(client)
	defer watcher.Close()
	first := <-watcher.Watch(clientv3.WithRequireLeader(ctx), "/cron/jobs/",
		clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if !first.Created {
		return fmt.Errorf("watch /cron/jobs/: %w",
			cmp.Or(first.Err(), ctx.Err(), errors.New("it was closed")))
	}
	fmt.Println("Watcher: watching since revision", first.Header.Revision)

	// A Client embeds one view of each kind: client.Get is client.KV.Get. Most
	// programs need no others. Every answer tells the store's revision.
	jobs, err = client.Get(ctx, "/cron/jobs/job1")
	if err != nil {
		return fmt.Errorf("get /cron/jobs/job1: %w", err)
	}
	fmt.Println("Client: the store is at revision", jobs.Header.Revision)

	for _, endpoint := range client.Endpoints() {
		status(ctx, client, endpoint)
	}
	members, err := client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list the members: %w", err)
	}
	for _, member := range members.Members {
		fmt.Printf("member %016x is %s, for clients at %v\n",
			member.ID, member.Name, member.ClientURLs)
	}
	return nil
}

// status prints what one endpoint says of itself. One that does not answer is
// no error here: the client goes on with the others.
func status(ctx context.Context, client *clientv3.Client, endpoint string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := client.Status(ctx, endpoint)
	if err != nil {
		fmt.Printf("%s does not answer: %v\n", endpoint, err)
		return
	}
	id := answer.Header.MemberId
	fmt.Printf("%s is member %016x, etcd %s\n", endpoint, id, answer.Version)
	fmt.Printf("  leader %t, raft term %d, database %d bytes, revision %d\n",
		id == answer.Leader, answer.RaftTerm, answer.DbSize,
		answer.Header.Revision)
}
