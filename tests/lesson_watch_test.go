//go:build unix

package tests

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestFollowWaitsForLeader takes lesson 06 its majority: it says so once, asks
// again only now and then, and shows what changes after that.
func TestFollowWaitsForLeader(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	watched := etcd.Members[0]
	lesson := harness.Start(t, watched.Endpoint, nil, "06-watch", "-for", "5m")
	lesson.Await(t, "DELETE")
	for _, m := range etcd.Members[1:] {
		etcdtest.NoError(t, m.Kill())
	}
	lesson.Await(t, "no leader")
	before, began, asked := watchRequests(t, watched), time.Now(), 0
	etcdtest.Eventually(t, "it asks again, and again", func() bool {
		asked = watchRequests(t, watched) - before
		return asked >= 4
	})
	if took := time.Since(began); took < time.Duration(asked)*100*time.Millisecond {
		t.Errorf("without a leader it asks %d times in %v", asked, took)
	}
	etcdtest.NoError(t, etcd.Restart(etcdtest.Soon(t), etcd.Members[1:]))
	harness.Put(t, etcdtest.Connect(t, etcd.Endpoints()...), watchDir+"mine", "after all")
	lesson.Await(t, `"after all"`)
	harness.Interrupt(t, lesson)
	got := lesson.Wait(t)
	got.Want(t, 0, "no leader", "")
	if strings.Count(got.Stdout, "no leader") != 1 {
		t.Errorf("it says more than once that there is no leader:\n%s", got.Stdout)
	}
}

// TestFollowSlowly loses the majority while follow is busy and changes wait for it.
// Then the client closes the watch and has nobody to tell the reason to. The changes
// are so many that etcd sends them in three parts, each of which has the revision of
// the last change in its header. The client keeps one part for who is busy, not two.
func TestFollowSlowly(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	prints, end := startFollow(t, etcd.Members[0].Endpoint)
	prints("present")
	const many = 2100 // etcd sends up to 1000 revisions at once.
	ctx, cancel := context.WithTimeout(t.Context(), etcdtest.Limit)
	defer cancel()
	var writers sync.WaitGroup
	for range 21 {
		writers.Go(func() {
			for range many / 21 {
				if _, err := client.Put(ctx, watchDir+"1", ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	harness.Put(t, client, watchDir+"go", "")
	prints("seen " + watchDir + "1")
	for _, m := range etcd.Members[1:] {
		etcdtest.NoError(t, m.Kill())
	}
	prints("no leader")
	etcdtest.NoError(t, etcd.Restart(etcdtest.Soon(t), etcd.Members[1:]))
	harness.Put(t, client, watchDir+"last", "")
	prints("seen " + watchDir + "last")
	got := end()
	got.Want(t, 0, "", "")
	if seen := strings.Count(got.Stdout, "seen "); seen != many+2 {
		t.Errorf("%d changes seen, want %d", seen, many+2)
	}
}

// TestFollowReadsWithoutLeader begins to follow an etcd that has just lost its
// majority. The member that is left does not know that yet: it goes on to wait for
// the others, and the read waits with it.
func TestFollowReadsWithoutLeader(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	alone := harness.Leader(t, etcd)
	network := harness.NewRelay(t, alone.Endpoint)
	network.Hold()
	prints, end := startFollow(t, network.Address)
	<-network.Used
	others := harness.Others(etcd, alone)
	for _, m := range others {
		etcdtest.NoError(t, m.Kill())
	}
	network.Resume()
	prints("no leader")
	etcdtest.NoError(t, etcd.Restart(etcdtest.Soon(t), others))
	prints("present")
	end().Want(t, 0, "", "")
}

// TestFollowWithExpiredToken follows with a client whose watches are refused, until
// they are not any more.
func TestFollowWithExpiredToken(t *testing.T) {
	etcdtest.NeedsLong(t, "it links a lesson with a test")
	t.Parallel()
	endpoint := harness.Locked(t, "--auth-token-ttl=1")
	prints, end := startFollow(t, endpoint, "ETCDCTL_USER=root:se:cret")
	prints("invalid auth token: trying again")
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint},
		Username: "root", Password: "se:cret", Logger: zap.NewNop()})
	etcdtest.NoError(t, err)
	defer client.Close()
	asked := func() int {
		count, err := harness.Machine.Metric(etcdtest.Soon(t), endpoint, "grpc_server_msg_received_total{", `grpc_method="Watch"`)
		etcdtest.NoError(t, err)
		return count
	}
	before, began := asked(), time.Now()
	etcdtest.Eventually(t, "it asks again, and again", func() bool { return asked()-before >= 4 })
	if took, count := time.Since(began), asked()-before; took < time.Duration(count)*100*time.Millisecond {
		t.Errorf("while it is refused it asks %d times in %v", count, took)
	}
	for _, name := range []string{"free", "after"} {
		_, err := client.Put(etcdtest.Soon(t), watchDir+name, "")
		etcdtest.NoError(t, err)
	}
	prints("seen " + watchDir + "free")
	prints("seen " + watchDir + "after")
	if got := end(); got.Status != 0 || strings.Count(got.Stdout, "trying again") != 1 || strings.Count(got.Stdout, "present") != 1 {
		t.Errorf("status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
}

// startFollow runs the test of the same name that is laid over lesson 06, with further
// variables. It returns a function that waits until a text was printed, and one that
// ends it.
func startFollow(t *testing.T, endpoint string, env ...string) (prints func(text string), end func() harness.Result) {
	t.Helper()
	follower, stdin := harness.StartOverlaid(t, "06-watch", t.Name(), append(env, "ETCDCTL_ENDPOINTS="+endpoint))
	prints = func(text string) {
		t.Helper()
		etcdtest.NoError(t, follower.Printed(text, etcdtest.Limit))
	}
	return prints, func() harness.Result {
		t.Helper()
		stdin.Close()
		return follower.Wait(t)
	}
}

// TestWatchLeavesHungMember pauses the member that lesson 06 watches, without a word
// to the connection. The client has to find out, and go on with another member.
func TestWatchLeavesHungMember(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	lesson := harness.Start(t, strings.Join(etcd.Endpoints(), ","), nil, "06-watch", "-for", "5m")
	lesson.Await(t, "DELETE")
	var others []string
	for _, m := range etcd.Members {
		if watchRequests(t, m) == 0 {
			others = append(others, m.Endpoint)
		} else if err := m.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	if len(others) != 2 {
		t.Fatalf("%d members have no watch", len(others))
	}
	harness.Leader(t, etcd)
	harness.Put(t, etcdtest.Connect(t, others...), watchDir+"mine", "after all")
	// 10 s without a sign of life, and 6 s to answer a ping.
	lesson.Await(t, `"after all"`)
}

// watchRequests returns how often a member was asked to watch.
func watchRequests(t *testing.T, m *cluster.Member) int {
	t.Helper()
	count, err := harness.Machine.Metric(etcdtest.Soon(t), m.Endpoint, "grpc_server_started_total{", `grpc_method="Watch"`)
	etcdtest.NoError(t, err)
	return count
}

// TestWatchSurvivesCompaction compacts what the watch has not seen yet, while
// etcd is restarted and the lesson paused.
func TestWatchSurvivesCompaction(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	endpoint := etcd.Endpoints()[0]
	lesson := harness.Start(t, endpoint, nil, "06-watch", "-for", "1h")
	lesson.Await(t, "DELETE")
	etcdtest.NoError(t, lesson.Process.Signal(syscall.SIGSTOP))
	etcdtest.NoError(t, etcd.Members[0].Restart(etcdtest.Soon(t)))
	client := etcdtest.Connect(t, endpoint)
	for range 2 {
		_, err := client.Compact(etcdtest.Soon(t), harness.Put(t, client, watchDir+"mine", "missed"))
		etcdtest.NoError(t, err)
	}
	etcdtest.NoError(t, lesson.Process.Signal(syscall.SIGCONT))
	lesson.Await(t, "the history was compacted")
	lesson.Await(t, "1 keys")
	harness.Put(t, client, watchDir+"mine", "seen")
	lesson.Await(t, `-> "seen"`)
	harness.Interrupt(t, lesson)
	lesson.Wait(t).Want(t, 0, "", "")
}
