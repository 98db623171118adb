//go:build unix

package tests

import (
	"bufio"
	"errors"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"example.com/etcd-by-example/classroom/cluster"
)

// TestWriteWithoutMajority takes the leader its followers and puts a key at
// once: it ends with an error, and when a follower is back, the key is there.
// The leader had written it down before it noticed that it is alone.
func TestWriteWithoutMajority(t *testing.T) {
	t.Parallel() // With no slot of its own: it only waits.
	etcd := startEtcd(t, cluster.Config{Members: 3})
	client := connect(t, etcd.Endpoints()...)
	for round := range 10 {
		leader := leader(t, etcd)
		alone := connect(t, leader.Endpoint)
		if _, err := alone.Get(soon(t), "/"); err != nil { // It connects now, and not later.
			t.Fatal(err)
		}
		var followers []*cluster.Member
		for _, m := range etcd.Members {
			if m != leader {
				followers = append(followers, m)
			}
		}
		for _, m := range followers {
			if err := m.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		value := strings.Repeat("x", round+1)
		// etcd itself gives up first, after 7 s: 5 s and two election timeouts.
		_, err := alone.Put(soon(t), "/cron/jobs/job1", value)
		if !errors.Is(err, rpctypes.ErrTimeout) {
			t.Errorf("the put ends with %v, want %v", err, rpctypes.ErrTimeout)
		}
		// One after the other: the first of them can only follow the old leader,
		// because the two together could do without what it has written down.
		for _, m := range followers {
			if err := m.Start(soon(t)); err != nil {
				t.Fatal(err)
			}
		}
		get, err := client.Get(soon(t), "/cron/jobs/job1")
		if err != nil {
			t.Fatal(err)
		}
		if get.Count != 1 || string(get.Kvs[0].Value) != value {
			t.Fatalf("round %d: the put did not happen: %v", round, get.Kvs)
		}
	}
}

// TestFollowWaitsForLeader takes lesson 06 its majority: it says so once, asks
// again only now and then, and shows what changes after that.
func TestFollowWaitsForLeader(t *testing.T) {
	parallel(t)
	etcd := startEtcd(t, cluster.Config{Members: 3})
	watched := etcd.Members[0]
	lesson := start(t, watched.Endpoint, nil, "06-watch", "-for", "5m")
	lesson.await(t, "DELETE")
	for _, m := range etcd.Members[1:] {
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	lesson.await(t, "no leader")
	before := watchRequests(t, watched)
	time.Sleep(3 * time.Second) // The time in which it could ask too often.
	if asked := watchRequests(t, watched) - before; asked < 2 || asked > 30 {
		t.Errorf("in three seconds without a leader it asks %.0f times", asked)
	}
	for _, m := range etcd.Members[1:] {
		if err := m.Start(soon(t)); err != nil {
			t.Fatal(err)
		}
	}
	client := connect(t, etcd.Endpoints()...)
	if _, err := client.Put(soon(t), "/cron/jobs/watch/mine", "after all"); err != nil {
		t.Fatal(err)
	}
	lesson.await(t, `"after all"`)
	interrupt(t, lesson)
	got := lesson.wait(t)
	if got.status != 0 || got.stderr != "" || strings.Count(got.stdout, "no leader") != 1 {
		t.Errorf("status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
}

// TestFollowSlowly loses the majority while follow is busy and a change waits for
// it. Then the client closes the watch and has nobody to tell the reason to.
func TestFollowSlowly(t *testing.T) {
	t.Parallel() // With no slot of its own: it only waits.
	etcd := startEtcd(t, cluster.Config{Members: 3})
	client := connect(t, etcd.Endpoints()...)
	cmd := exec.CommandContext(t.Context(), overlaid(t, "06-watch"), "-test.run", "FollowSlowly")
	cmd.Env = plainEnv("ETCDCTL_ENDPOINTS=" + etcd.Members[0].Endpoint)
	printed := newOutput()
	cmd.Stdout, cmd.Stderr = printed, printed
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	prints := func(text string) {
		t.Helper()
		eventually(t, time.Minute, text, func() bool {
			return strings.Contains(printed.String(), text) || strings.Contains(printed.String(), "FAIL")
		})
	}
	put := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if _, err := client.Put(soon(t), watchDir+name, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	prints("present")
	put("1", "2", "3", "4")
	prints("seen " + watchDir + "1")
	for _, m := range etcd.Members[1:] {
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	prints("no leader")
	for _, m := range etcd.Members[1:] {
		if err := m.Start(soon(t)); err != nil {
			t.Fatal(err)
		}
	}
	put("5")
	prints("seen " + watchDir + "5")
	stdin.Close()
	if err := cmd.Wait(); err != nil || strings.Count(printed.String(), "seen ") != 5 {
		t.Errorf("%v\n%s", err, printed)
	}
}

// watchRequests returns how often a member was asked to watch.
func watchRequests(t *testing.T, m *cluster.Member) (count float64) {
	t.Helper()
	answer, err := http.Get("http://" + m.Endpoint + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for scanner := bufio.NewScanner(answer.Body); scanner.Scan(); {
		name, value, _ := strings.Cut(scanner.Text(), "} ")
		if strings.HasPrefix(name, "grpc_server_started_total{") && strings.Contains(name, `grpc_method="Watch"`) {
			if count, err = strconv.ParseFloat(value, 64); err != nil {
				t.Fatal(err)
			}
			return count
		}
	}
	t.Fatal("the metrics do not count the requests to watch")
	return 0
}
