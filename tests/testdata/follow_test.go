package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

// TestFollow calls follow once, and writes what it hands over to the file
// FOLLOW_HISTORY, until the key "end" comes or standard input ends.
func TestFollow(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
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

	add := func(w watched) {
		line, err := json.Marshal(w)
		if err != nil {
			t.Error(err)
		}
		if _, err := file.Write(append(line, '\n')); err != nil {
			t.Error(err)
		}
		for _, m := range w.Changes {
			if m.Key == dir+"end" {
				stop()
			}
		}
	}
	err = follow(ctx, client, dir, func(present *clientv3.GetResponse) {
		w := watched{Present: true, Revision: present.Header.Revision}
		for _, kv := range present.Kvs {
			w.Changes = append(w.Changes, modificationOf(kv))
		}
		add(w)
	}, func(response clientv3.WatchResponse) {
		w := watched{Progress: response.IsProgressNotify(), Revision: response.Header.Revision}
		for _, event := range response.Events {
			m := modificationOf(event.Kv)
			m.Deleted = event.Type == mvccpb.Event_DELETE
			if event.PrevKv != nil {
				m.Prev = new(string(event.PrevKv.Value))
			}
			w.Changes = append(w.Changes, m)
		}
		add(w)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFollowSlowly takes its time for each change that follow hands over, until
// standard input ends.
func TestFollowSlowly(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	client, err := shared.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = follow(ctx, client, dir, func(*clientv3.GetResponse) {
		fmt.Println("present")
	}, func(response clientv3.WatchResponse) {
		for _, event := range response.Events {
			fmt.Printf("seen %s\n", event.Kv.Key)
		}
		time.Sleep(3 * time.Second)
	})
	if err != nil {
		t.Error(err)
	}
}

func modificationOf(kv *mvccpb.KeyValue) modification {
	return modification{Key: string(kv.Key), Value: string(kv.Value),
		Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version}
}

// watched is what follow handed over at a time, as the tests read it.
type watched struct {
	Present  bool // it is the present, and not a response of the watch
	Progress bool // it is a response that tells nothing but a revision
	Revision int64
	Changes  []modification
}

// modification is a key as a change left it.
type modification struct {
	Key, Value           string
	Deleted              bool
	Create, Mod, Version int64
	Prev                 *string // the value before, where it was told
}
