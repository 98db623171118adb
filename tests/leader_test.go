package tests

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
)

// leader returns the member that leads, and waits for one when none does.
func leader(t testing.TB, etcd *cluster.Cluster) *cluster.Member {
	t.Helper()
	client := connect(t, etcd.Endpoints()...)
	defer client.Close()
	var found *cluster.Member
	eventually(t, 30*time.Second, "a member leads", func() bool {
		found, _ = leading(t.Context(), client, etcd)
		return found != nil
	})
	return found
}

// killLeader kills the member that leads and returns it when another leads.
// The caller starts it again, with Start.
func killLeader(t testing.TB, etcd *cluster.Cluster) *cluster.Member {
	t.Helper()
	killed := leader(t, etcd)
	if err := killed.Kill(); err != nil {
		t.Fatal(err)
	}
	leader(t, etcd)
	return killed
}

// leading asks the members that run which of them leads now, and since which
// term. It returns nil when none says so of itself: a follower may still name a
// leader that is gone.
func leading(ctx context.Context, client *clientv3.Client,
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
