package tests

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/relay"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestHowLeasesEnd has leases end in all ways, and looks at what is recorded.
func TestHowLeasesEnd(t *testing.T) {
	etcdtest.NeedsLong(t, "leases that run for half a minute")
	t.Parallel()
	record := func(t *testing.T, members int) (*history.Recorder, *clientv3.Client, *cluster.Cluster, *harness.Relay) {
		t.Parallel()
		etcd := etcdtest.Etcd(t, cluster.Config{Members: members})
		endpoints := etcd.Endpoints()
		var r *harness.Relay
		if members == 1 {
			r = harness.NewRelay(t, endpoints[0])
			endpoints = []string{r.Address}
		}
		recorder, _ := recordEtcd(t, history.Source{Etcd: clientv3.Config{Endpoints: endpoints}})
		etcdtest.Eventually(t, "the members have counted", func() bool { return recorder.Renewals() == 0 })
		return recorder, etcdtest.Connect(t, etcd.Endpoints()...), etcd, r
	}
	grant := func(t *testing.T, client *clientv3.Client, ttl int64, keys ...string) clientv3.LeaseID {
		t.Helper()
		lease, err := client.Grant(etcdtest.Soon(t), ttl)
		etcdtest.NoError(t, err)
		for _, key := range keys {
			_, err := client.Put(etcdtest.Soon(t), key, "", clientv3.WithLease(lease.ID))
			etcdtest.NoError(t, err)
		}
		return lease.ID
	}
	revoke := func(t *testing.T, client *clientv3.Client, lease clientv3.LeaseID) {
		t.Helper()
		_, err := client.Revoke(etcdtest.Soon(t), lease)
		etcdtest.NoError(t, err)
	}
	// known waits for a lease to be known by etcd's own words.
	known := func(t *testing.T, recorder *history.Recorder, lease clientv3.LeaseID) (known history.Lease) {
		t.Helper()
		etcdtest.Eventually(t, "the lease is asked for", func() bool {
			for _, l := range recorder.Record().Present().Leases() {
				if l.ID == int64(lease) && l.TTL > 0 {
					known = l
					return true
				}
			}
			return false
		})
		return known
	}
	ends := func(recorder *history.Recorder) string {
		var all []string
		for _, l := range recorder.Record().EndedLeases() {
			all = append(all, fmt.Sprint(l.Ended, " with ", len(l.Keys)))
		}
		return strings.Join(all, ", ")
	}
	awaitEnds := func(t *testing.T, recorder *history.Recorder, want string) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for ends(recorder) != want {
			if time.Now().After(deadline) {
				t.Fatalf("leases have ended so: %.500s\nwant: %.500s", ends(recorder), want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}

	t.Run("expired", func(t *testing.T) {
		recorder, client, _, _ := record(t, 1)
		for range 2 {
			known(t, recorder, grant(t, client, 1, "/a", "/b"))
			known(t, recorder, grant(t, client, 1))
			etcdtest.Eventually(t, "they expire", func() bool {
				list, err := client.Leases(etcdtest.Soon(t))
				return err == nil && len(list.Leases) == 0
			})
		}
		awaitEnds(t, recorder, "expired with 2, expired with 0, expired with 2, expired with 0")
		changes, err := recorder.Record().Changes(4, 4)
		if err != nil || len(changes) != 2 || changes[0].Ended != history.Expired || changes[1].Ended != history.Expired {
			t.Errorf("the changes of the end are %v, %v", changes, err)
		}
	})
	t.Run("revoked at once", func(t *testing.T) {
		recorder, client, _, _ := record(t, 1)
		var want []string
		for i := range 300 {
			revoke(t, client, grant(t, client, 60, fmt.Sprint("/", i)))
			want = append(want, "revoked with 1")
		}
		awaitEnds(t, recorder, strings.Join(want, ", "))
	})
	t.Run("gone before its key is heard of", func(t *testing.T) {
		t.Parallel()
		etcd := etcdtest.Etcd(t, cluster.Config{})
		network, err := relay.Start(etcd.Endpoints()[0], 0)
		etcdtest.NoError(t, err)
		t.Cleanup(network.Close)
		etcdtest.NoError(t, network.Ready(etcdtest.Soon(t)))
		var late atomic.Bool
		heard := make(chan relay.Verdict)
		network.Hook(func(m *relay.Message) relay.Verdict {
			if late.Load() && m.Answered && m.Method == pb.Watch_Watch_FullMethodName {
				return m.Await(heard)
			}
			return relay.Pass
		})
		recorder, _ := recordEtcd(t, history.Source{Etcd: clientv3.Config{Endpoints: []string{network.Address}}})
		client := etcdtest.Connect(t, etcd.Endpoints()...)
		lease := grant(t, client, 60)
		known(t, recorder, lease)
		late.Store(true)
		_, err = client.Put(etcdtest.Soon(t), "/a", "", clientv3.WithLease(lease))
		etcdtest.NoError(t, err)
		revoke(t, client, lease)
		asked := func() int { return network.Calls()[pb.Lease_LeaseTimeToLive_FullMethodName] }
		before := asked()
		etcdtest.Eventually(t, "the lease is asked for", func() bool { return asked() > before })
		time.AfterFunc(100*time.Millisecond, func() { close(heard) }) // The answer comes before.
		awaitEnds(t, recorder, "revoked with 1")
	})
	t.Run("deleted before", func(t *testing.T) {
		recorder, client, _, _ := record(t, 1)
		lease := grant(t, client, 60, "/a")
		_, err := client.Delete(etcdtest.Soon(t), "/a")
		etcdtest.NoError(t, err)
		known(t, recorder, lease)
		revoke(t, client, lease)
		awaitEnds(t, recorder, "revoked with 0")
		changes, err := recorder.Record().Changes(3, 3)
		if err != nil || len(changes) != 1 || changes[0].Ended != history.Alive {
			t.Errorf("the deletion is %v, %v", changes, err)
		}
	})
	t.Run("revoked, and heard of late", func(t *testing.T) {
		recorder, client, _, relay := record(t, 1)
		lease := grant(t, client, 3, "/a")
		deadline := known(t, recorder, lease).Late
		relay.Hold()
		revoke(t, client, lease)
		time.Sleep(time.Until(deadline) + time.Second)
		relay.Resume()
		awaitEnds(t, recorder, "revoked with 1")
	})
	t.Run("both at once", func(t *testing.T) {
		recorder, client, _, relay := record(t, 1)
		expires, revoked := grant(t, client, 2, "/a"), grant(t, client, 3, "/b")
		known(t, recorder, expires)
		deadline := known(t, recorder, revoked).Late
		relay.Hold()
		revoke(t, client, revoked)
		time.Sleep(time.Until(deadline) + time.Second)
		relay.Resume()
		// One of two was counted as expired. Nothing tells which.
		awaitEnds(t, recorder, "ended with 1, ended with 1")
	})
	t.Run("a member restarts", func(t *testing.T) {
		recorder, client, etcd, _ := record(t, 1)
		lease := grant(t, client, 2, "/a")
		known(t, recorder, lease)
		etcdtest.NoError(t, etcd.Members[0].Kill())
		etcdtest.NoError(t, etcd.Members[0].Start(etcdtest.Soon(t)))
		etcdtest.Eventually(t, "the lease ends", func() bool { return ends(recorder) != "" })
		// It expired, which was counted by a member that has been asked never before.
		if got := ends(recorder); strings.HasPrefix(got, "revoked") {
			t.Errorf("leases have ended so: %s", got)
		}
	})
	t.Run("another leader", func(t *testing.T) {
		recorder, client, etcd, _ := record(t, 3)
		lease := grant(t, client, 30, "/a")
		known(t, recorder, lease)
		before := known(t, recorder, lease)
		killed := harness.KillLeader(t, etcd)
		etcdtest.Eventually(t, "the deadline moves", func() bool {
			return known(t, recorder, lease).Early.After(before.Late)
		})
		if got := known(t, recorder, lease); got.Renewals != 0 {
			t.Errorf("it was renewed %d times", got.Renewals)
		}
		etcdtest.NoError(t, killed.Start(etcdtest.Soon(t)))
		revoke(t, client, lease)
		awaitEnds(t, recorder, "revoked with 1")
	})
	t.Run("renewed", func(t *testing.T) {
		recorder, client, _, _ := record(t, 1)
		lease := grant(t, client, 1, "/a")
		known(t, recorder, lease)
		renewals := 0
		for end := time.Now().Add(4 * time.Second); time.Now().Before(end); renewals++ {
			_, err := client.KeepAliveOnce(etcdtest.Soon(t), lease)
			etcdtest.NoError(t, err)
			time.Sleep(200 * time.Millisecond)
		}
		etcdtest.Eventually(t, fmt.Sprint(renewals, " renewals are counted"), func() bool {
			return recorder.Renewals() == renewals
		})
		known := known(t, recorder, lease).Renewals
		if known < 1 || known > renewals {
			t.Errorf("of %d renewals, %d are known of the lease", renewals, known)
		}
	})
}
