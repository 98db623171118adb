package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/judge"
	"example.com/etcd-by-example/shared"
)

// TestFollow calls follow once, and writes what it hands over to the file
// FOLLOW_HISTORY, as one judge.Answer each time, until the key "end" comes or standard
// input ends.
func TestFollow(t *testing.T) {
	ctx, stop := untilStdinEnds(t)
	defer stop()
	file, err := os.OpenFile(os.Getenv("FOLLOW_HISTORY"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	client, err := shared.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		// What is asked under the same context concerns the lesson's watch.
		for ctx.Err() == nil {
			client.RequestProgress(clientv3.WithRequireLeader(ctx))
			time.Sleep(20 * time.Millisecond)
		}
	}()

	add := func(a judge.Answer) {
		line, err := json.Marshal(a)
		if err != nil {
			t.Error(err)
		}
		if _, err := file.Write(append(line, '\n')); err != nil {
			t.Error(err)
		}
		for _, c := range a.Changes {
			if c.Key == dir+"end" {
				stop()
			}
		}
	}
	err = follow(ctx, client, dir, func(present *clientv3.GetResponse) {
		a := judge.Answer{Present: true, Revision: present.Header.Revision}
		for _, kv := range present.Kvs {
			a.Changes = append(a.Changes, history.Change{Key: string(kv.Key), After: history.NewKeyValue(kv)})
		}
		add(a)
	}, func(response clientv3.WatchResponse) {
		var a judge.Answer
		if response.IsProgressNotify() {
			a.Revision = response.Header.Revision
		}
		for _, event := range response.Events {
			c := history.Change{Revision: event.Kv.ModRevision, Key: string(event.Kv.Key)}
			if event.Type == mvccpb.Event_PUT {
				c.After = history.NewKeyValue(event.Kv)
			}
			if event.PrevKv != nil {
				c.Before = history.NewKeyValue(event.PrevKv)
			}
			a.Changes = append(a.Changes, c)
		}
		add(a)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFollowSlowly takes its time for what follow hands over: for the present until
// the key "go" is there, and for the first response longer than etcd needs to end a
// watch that has no leader. It ends with standard input.
func TestFollowSlowly(t *testing.T) {
	ctx, stop := untilStdinEnds(t)
	defer stop()
	client, err := shared.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	slow := sync.OnceFunc(func() { time.Sleep(8 * time.Second) })
	err = follow(ctx, client, dir, func(present *clientv3.GetResponse) {
		fmt.Println("present")
		<-client.Watch(ctx, dir+"go", clientv3.WithRev(present.Header.Revision+1))
	}, func(response clientv3.WatchResponse) {
		for _, event := range response.Events {
			fmt.Printf("seen %s\n", event.Kv.Key)
		}
		slow()
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFollowReadsWithoutLeader follows without asking first whether etcd can be used,
// until standard input ends.
func TestFollowReadsWithoutLeader(t *testing.T) {
	ctx, stop := untilStdinEnds(t)
	defer stop()
	config, err := shared.Config()
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(*config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = follow(ctx, client, dir, func(*clientv3.GetResponse) {
		fmt.Println("present")
	}, func(clientv3.WatchResponse) {})
	if err != nil {
		t.Error(err)
	}
}

// TestFollowWithExpiredToken follows with a client that has watched for longer than its
// token is valid: the new watch is refused as long as the old one goes on, and that ends
// with the key "free". It ends with standard input.
func TestFollowWithExpiredToken(t *testing.T) {
	ctx, stop := untilStdinEnds(t)
	defer stop()
	client, err := shared.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	old, end := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer end()
	watched := client.Watch(old, dir+"free", clientv3.WithCreatedNotify())
	<-watched
	go func() {
		<-watched
		end()
	}()
	for {
		// A token that is used is prolonged: more often it must not be tried.
		refused, done := context.WithTimeout(clientv3.WithRequireLeader(ctx), 4*time.Second)
		response := <-client.Watch(refused, dir)
		done()
		if err := response.Err(); err != nil && strings.Contains(err.Error(), "invalid auth token") {
			break
		}
	}
	err = follow(ctx, client, dir, func(*clientv3.GetResponse) {
		fmt.Println("present")
	}, func(response clientv3.WatchResponse) {
		for _, event := range response.Events {
			fmt.Printf("seen %s\n", event.Kv.Key)
		}
	})
	if err != nil {
		t.Error(err)
	}
}
