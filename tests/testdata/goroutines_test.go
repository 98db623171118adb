package main

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared"
)

// TestGoroutines is laid over each lesson: it calls run and looks at once for
// goroutines in functions of the lesson. The lesson comes to its end, or is
// interrupted, each time at another moment.
func TestGoroutines(t *testing.T) {
	// A goroutine that run has started, and not waited for, is there when it returns: it
	// runs when this one waits.
	runtime.GOMAXPROCS(1)
	if err := runOnce(t, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		runOnce(t, time.Duration(30*i)*time.Millisecond)
	}
}

// runOnce calls run with a context that ends after limit, before run when that is 0.
func runOnce(t *testing.T, limit time.Duration) (err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, err := shared.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	if limit > 0 {
		time.AfterFunc(limit, cancel)
	} else {
		cancel()
	}
	switch run := any(run).(type) {
	case func(context.Context) error:
		err = run(ctx)
	case func(context.Context, *clientv3.Client) error:
		err = run(ctx, client)
	default:
		t.Fatalf("run is a %T", run)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	all := strings.Split(string(stacks), "\n\n")
	this, _, _ := strings.Cut(all[0], " [")
	for _, stack := range all[1:] {
		// One that has not run yet tells nothing but who has started it.
		if strings.Contains(stack, "etcd-by-example/0") ||
			strings.Contains(stack, "created by sync.(*WaitGroup).Go in "+this+"\n") {
			t.Errorf("a goroutine outlives run:\n%s", stack)
		}
	}

	leases, failed := client.Leases(t.Context())
	if failed != nil {
		t.Fatal(failed)
	}
	if len(leases.Leases) > 0 {
		t.Errorf("leases left: %v", leases.Leases)
	}
	return err
}
