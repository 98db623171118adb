//go:build unix

package tests

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestWriteWithoutMajority takes the leader its followers and puts a key at
// once: it ends with an error, and when a follower is back, the key is there.
// The leader had written it down before it noticed that it is alone.
func TestWriteWithoutMajority(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	rounds := 2
	if etcdtest.Nightly() {
		rounds = 10
	}
	for round := range rounds {
		leader := harness.Leader(t, etcd)
		alone := etcdtest.Connect(t, leader.Endpoint)
		if _, err := alone.Get(etcdtest.Soon(t), "/"); err != nil { // It connects now, and not later.
			t.Fatal(err)
		}
		followers := harness.Others(etcd, leader)
		for _, m := range followers {
			etcdtest.NoError(t, m.Kill())
		}
		value := strings.Repeat("x", round+1)
		// etcd itself gives up first, after 7 s: 5 s and two election timeouts.
		_, err := alone.Put(etcdtest.Soon(t), "/cron/jobs/job1", value)
		if !errors.Is(err, rpctypes.ErrTimeout) {
			t.Errorf("the put ends with %v, want %v", err, rpctypes.ErrTimeout)
		}
		// One after the other: the first of them can only follow the old leader,
		// because the two together could do without what it has written down.
		for _, m := range followers {
			etcdtest.NoError(t, m.Start(etcdtest.Soon(t)))
		}
		get, err := client.Get(etcdtest.Soon(t), "/cron/jobs/job1")
		etcdtest.NoError(t, err)
		if get.Count != 1 || string(get.Kvs[0].Value) != value {
			t.Fatalf("round %d: the put did not happen: %v", round, get.Kvs)
		}
	}
}
