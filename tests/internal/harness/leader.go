package harness

import (
	"context"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
)

// Leader returns the member that leads, and waits for one when none does.
func Leader(t testing.TB, etcd *cluster.Cluster) *cluster.Member {
	t.Helper()
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	defer client.Close()
	var found *cluster.Member
	etcdtest.Eventually(t, "a member leads", func() bool {
		found, _ = Leading(t.Context(), client, etcd)
		return found != nil
	})
	return found
}

// Others returns the members of a cluster but one.
func Others(etcd *cluster.Cluster, m *cluster.Member) []*cluster.Member {
	return slices.DeleteFunc(slices.Clone(etcd.Members), func(other *cluster.Member) bool { return other == m })
}

// AwaitNoLeader returns when a member has noticed that its leader is gone. Until then a
// question waits for those that are gone.
func AwaitNoLeader(t testing.TB, member *cluster.Member) {
	t.Helper()
	client := etcdtest.Connect(t, member.Endpoint)
	defer client.Close()
	etcdtest.Eventually(t, member.Name+" has no leader", func() bool {
		status, err := client.Status(etcdtest.Soon(t), member.Endpoint)
		return err == nil && status.Leader == 0
	})
}

// KillLeader kills the member that leads and returns it when another leads.
// The caller starts it again, with Start.
func KillLeader(t testing.TB, etcd *cluster.Cluster) *cluster.Member {
	t.Helper()
	killed := Leader(t, etcd)
	etcdtest.NoError(t, killed.Kill())
	Leader(t, etcd)
	return killed
}

// Leading asks the members that run which of them leads now, and since which
// term. It returns nil when none says so of itself: a follower may still name a
// leader that is gone.
func Leading(ctx context.Context, client *clientv3.Client,
	etcd *cluster.Cluster) (found *cluster.Member, term uint64) {
	for _, member := range etcd.Members {
		if member.PID() == 0 || member.Paused() {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		status, err := client.Status(ask, member.Endpoint)
		cancel()
		if err == nil && status.Leader == status.Header.MemberId &&
			status.RaftTerm > term {
			found, term = member, status.RaftTerm
		}
	}
	return found, term
}
