package tests

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestHistoryProof records an etcd while its leaders are killed, its members restart
// and its history is compacted, and asks etcd itself what was at each revision.
func TestHistoryProof(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	rounds, each := 3, int64(100) // A paused member takes half a minute more.
	if etcdtest.Nightly() {
		rounds, each = 20, 500
	}
	random := harness.Random(t)
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	recorder, record := recordEtcd(t, history.Source{Etcd: clientv3.Config{Endpoints: etcd.Endpoints()}})
	compacted, asked := int64(1), 0
	for round := range rounds {
		stop := repeat(t, 3, random, func(ctx context.Context, _ int, random *rand.Rand) {
			scribble(ctx, client, random)
		})
		from := record.Last()
		awaitRevision(t, recorder, record, from+each/2)
		switch round % 4 {
		case 0:
			etcdtest.NoError(t, harness.KillLeader(t, etcd).Start(etcdtest.Soon(t)))
		case 1:
			compacted = record.Last() - 10
			_, err := client.Compact(etcdtest.Soon(t), compacted)
			etcdtest.NoError(t, err)
		case 2:
			etcdtest.NoError(t, etcd.Members[random.IntN(3)].Restart(etcdtest.Soon(t)))
		case 3:
			m := etcd.Members[random.IntN(3)]
			etcdtest.NoError(t, m.Pause())
			// Whoever asks it waits for 10 s, so there are few.
			awaitRevision(t, recorder, record, record.Last()+20)
			etcdtest.NoError(t, m.Resume())
		}
		awaitRevision(t, recorder, record, from+each)
		stop()

		get, err := client.Get(etcdtest.Soon(t), "none")
		etcdtest.NoError(t, err)
		last := get.Header.Revision
		awaitRevision(t, recorder, record, last)
		for n := max(from, compacted); n <= last; n++ {
			compareAt(t, client, record, n)
			asked++
		}
	}
	t.Logf("%d revisions, %d compared with etcd's own answers", record.Last(), asked)
}

// TestRecorderReadsOneRevision begins to record a store of several pages that is
// written to all the time.
func TestRecorderReadsOneRevision(t *testing.T) {
	etcdtest.NeedsLong(t, "thousands of revisions")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	key := func(i int) string { return fmt.Sprintf("/k/%04d", i) }
	for i := range 1000 {
		_, err := client.Put(etcdtest.Soon(t), key(i), "")
		etcdtest.NoError(t, err)
	}
	repeat(t, 4, harness.Random(t), func(ctx context.Context, _ int, random *rand.Rand) {
		client.Put(ctx, key(random.IntN(1000)), "again")
	})
	recorder, record := recordEtcd(t, history.Source{Etcd: clientv3.Config{Endpoints: etcd.Endpoints()}})
	first := record.First()
	awaitRevision(t, recorder, record, first+1000)
	compareAt(t, client, record, first)
}

// TestRecorderKeepsItsRecord has an etcd go away, and come back with the same store. A
// recorder that asks which store it is gets no answer at first.
func TestRecorderKeepsItsRecord(t *testing.T) {
	etcdtest.NeedsLong(t, "an etcd that goes away")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	_, err := client.Put(etcdtest.Soon(t), "/k", "")
	etcdtest.NoError(t, err)
	var refused atomic.Bool
	refuse := func(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if get, ok := request.(*pb.RangeRequest); ok && get.Revision > 0 && !refused.Swap(true) {
			return status.Error(codes.Internal, "refused")
		}
		return invoke(ctx, method, request, answer, conn, options...)
	}
	recorder, record := recordEtcd(t, history.Source{Etcd: clientv3.Config{Endpoints: etcd.Endpoints(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(refuse)}}})
	put := func() {
		t.Helper()
		answer, err := client.Put(etcdtest.Soon(t), "/k", "")
		etcdtest.NoError(t, err)
		awaitRevision(t, recorder, record, answer.Header.Revision)
	}
	put() // What is asked about is the last change that was recorded.
	etcdtest.NoError(t, etcd.Members[0].Kill())
	etcdtest.Eventually(t, "the recorder has noticed", func() bool { return recorder.Trouble() != nil })
	etcdtest.NoError(t, etcd.Members[0].Start(etcdtest.Soon(t)))
	etcdtest.Eventually(t, "the recorder has asked", refused.Load)
	put()
}

// scribble puts and deletes some keys, now and then with a lease that is revoked.
func scribble(ctx context.Context, client *clientv3.Client, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var lease clientv3.LeaseID
	if random.IntN(10) == 0 {
		if granted, err := client.Grant(ctx, 60); err == nil {
			lease = granted.ID
			defer client.Revoke(ctx, lease)
		}
	}
	var ops []clientv3.Op
	for _, n := range random.Perm(30)[:1+random.IntN(4)] {
		key := fmt.Sprintf("/k/%02d", n)
		if random.IntN(4) == 0 {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, clientv3.OpPut(key, fmt.Sprint(random.Uint32()), clientv3.WithLease(lease)))
		}
	}
	client.Txn(ctx).Then(ops...).Commit() // What fails may have happened.
}

// compareAt compares the store at a revision with etcd's own answer.
func compareAt(t *testing.T, client *clientv3.Client, record *history.Record, revision int64) {
	t.Helper()
	get, err := client.Get(etcdtest.Soon(t), "\x00", clientv3.WithFromKey(), clientv3.WithRev(revision))
	etcdtest.NoError(t, err)
	want := map[string]history.KeyValue{}
	for _, kv := range get.Kvs {
		made := *history.NewKeyValue(kv)
		made.Size = len(made.Value)
		want[made.Key] = made
	}
	moment, err := record.At(revision)
	etcdtest.NoError(t, err)
	got := map[string]history.KeyValue{}
	for kv := range moment.Range("") {
		got[kv.Key] = *kv
	}
	if !maps.Equal(got, want) {
		t.Fatalf("at revision %d the record has\n%v\netcd has\n%v", revision, got, want)
	}
}

// TestAnotherStore empties the store under a recorder.
func TestAnotherStore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		told  bool
		after int // puts in the new store, before the recorder is back
	}{
		{"told of, and passed", true, 12},
		{"told of", true, 1},
		{"not told of", false, 1},
		{"not told of, and nothing in it", false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Etcd(t, cluster.Config{})
			client := etcdtest.Connect(t, etcd.Endpoints()...)
			source := history.Source{Etcd: clientv3.Config{Endpoints: etcd.Endpoints()}}
			if c.told {
				source.Emptied = etcd.Emptied
			}
			recorder, old := recordEtcd(t, source)
			for i := range 5 {
				_, err := client.Put(etcdtest.Soon(t), fmt.Sprint("/old/", i), "")
				etcdtest.NoError(t, err)
			}
			awaitRevision(t, recorder, old, 6)
			etcdtest.NoError(t, etcd.Reset(etcdtest.Soon(t)))
			for i := range c.after {
				_, err := client.Put(etcdtest.Soon(t), fmt.Sprint("/new/", i), "")
				etcdtest.NoError(t, err)
			}
			last := int64(1 + c.after)
			etcdtest.Eventually(t, "the new store is recorded", func() bool {
				now := recorder.Record()
				return now != old && now.Last() == last
			})
			compareAt(t, client, recorder.Record(), last)
			if old.Last() != 6 || old.Present().Len() != 5 {
				t.Errorf("the old record has changed: revision %d, %d keys", old.Last(), old.Present().Len())
			}
		})
	}
}
