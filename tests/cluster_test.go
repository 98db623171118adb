package tests

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/cluster"
)

// TestMemberKeepsItsData ends a member in both ways and starts it again.
func TestMemberKeepsItsData(t *testing.T) {
	parallel(t)
	member := startEtcd(t, cluster.Config{}).Members[0]
	client := connect(t, member.Endpoint)
	if _, err := client.Put(soon(t), "kept", "yes"); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func() error{
		"Stop": member.Stop, "Kill": member.Kill,
	} {
		before := member.PID()
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if member.PID() != 0 {
			t.Errorf("after %s it runs as %d", name, member.PID())
		}
		if err := end(); err != nil {
			t.Errorf("%s of a member that does not run: %v", name, err)
		}
		if err := member.Pause(); err == nil {
			t.Errorf("after %s it can be paused", name)
		}
		if err := member.Start(soon(t)); err != nil {
			t.Fatalf("start after %s: %v", name, err)
		}
		if member.PID() == 0 || member.PID() == before {
			t.Errorf("after %s and Start: process %d, before %d", name, member.PID(), before)
		}
		if get, err := client.Get(soon(t), "kept"); err != nil || get.Count != 1 {
			t.Errorf("after %s and Start: %v, %v", name, get, err)
		}
	}
	if err := member.Start(soon(t)); err == nil {
		t.Error("a member that runs can be started")
	}
}

// TestMemberPauses pauses a member: its port still accepts, but nothing answers
// until it is resumed.
func TestMemberPauses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows cannot pause a process")
	}
	parallel(t)
	member := startEtcd(t, cluster.Config{}).Members[0]
	client := connect(t, member.Endpoint)
	if err := member.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Get(ctx, "a"); err == nil {
		t.Error("a paused member answers")
	}
	if err := member.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(soon(t), "a"); err != nil {
		t.Errorf("after Resume: %v", err)
	}
}

// TestStartFails checks that a failed start says why and leaves nothing.
func TestStartFails(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	t.Run("a setting that etcd refuses", func(t *testing.T) {
		_, err := cluster.Start(soon(t), cluster.Config{Args: []string{"--election-timeout=1"}})
		if err == nil || !strings.Contains(err.Error(), "should be at least as 5 times") {
			t.Errorf("the error is %v", err)
		}
		empty(t, temporary)
	})
	t.Run("no time", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := cluster.Start(ctx, cluster.Config{Members: 3})
		if err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
			t.Errorf("the error is %v", err)
		}
		empty(t, temporary)
	})
	t.Run("a user's variables are not etcd's flags", func(t *testing.T) {
		t.Setenv("ETCD_DATA_DIR", temporary)
		t.Setenv("ETCD_NAME", "mine")
		startEtcd(t, cluster.Config{})
		if _, err := os.Stat(temporary + "/member"); err == nil {
			t.Error("etcd took ETCD_DATA_DIR")
		}
	})
}

// TestReset empties stores while their members are in all states that a learner can
// bring them into.
func TestReset(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		members int
		kept    bool
		before  func(t *testing.T, m []*cluster.Member)
	}{
		{"one runs", 1, false, func(*testing.T, []*cluster.Member) {}},
		{"one was stopped", 1, true, func(t *testing.T, m []*cluster.Member) {
			noError(t, m[0].Stop())
		}},
		{"three: killed, paused, running", 3, true, func(t *testing.T, m []*cluster.Member) {
			noError(t, m[0].Kill())
			if runtime.GOOS != "windows" {
				noError(t, m[1].Pause())
			}
		}},
		{"three run", 3, false, func(*testing.T, []*cluster.Member) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			config := cluster.Config{Members: c.members}
			if c.kept {
				config.Dir = filepath.Join(t.TempDir(), "kept")
			}
			etcd := startEtcd(t, config)
			client := connect(t, etcd.Endpoints()...)
			for range 3 {
				if _, err := client.Put(soon(t), "old", "value"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := client.Grant(soon(t), 600); err != nil {
				t.Fatal(err)
			}
			if _, err := client.UserAdd(soon(t), "ann", "secret"); err != nil {
				t.Fatal(err)
			}
			c.before(t, etcd.Members)
			pids := make(map[int]bool)
			for _, m := range etcd.Members {
				pids[m.PID()] = true
			}
			emptied := etcd.Emptied()
			if err := etcd.Reset(soon(t)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-emptied:
			default:
				t.Error("nobody was told that the store was emptied")
			}
			for _, m := range etcd.Members {
				if m.PID() == 0 || pids[m.PID()] || m.Paused() {
					t.Errorf("%s is process %d, paused %t; before: %v", m.Name, m.PID(), m.Paused(), pids)
				}
				isNew(t, m.Endpoint)
			}
			// The new store is kept as the old one was.
			client = connect(t, etcd.Endpoints()...)
			if _, err := client.Put(soon(t), "new", "value"); err != nil {
				t.Fatal(err)
			}
			if err := etcd.Members[0].Restart(soon(t)); err != nil {
				t.Fatal(err)
			}
			if get, err := client.Get(soon(t), "new"); err != nil || get.Count != 1 {
				t.Errorf("after a restart: %v, %v", get, err)
			}
		})
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// isNew fails the test unless the store at endpoint is one that nobody has used.
func isNew(t testing.TB, endpoint string) {
	t.Helper()
	client := connect(t, endpoint)
	get, err := client.Get(soon(t), "old")
	if err != nil || get.Count != 0 || get.Header.Revision != 1 {
		t.Errorf("%s has the key %v: %v", endpoint, get, err)
	}
	if leases, err := client.Leases(soon(t)); err != nil || len(leases.Leases) != 0 {
		t.Errorf("%s has the leases %v: %v", endpoint, leases, err)
	}
	if users, err := client.UserList(soon(t)); err != nil || len(users.Users) != 0 {
		t.Errorf("%s has the users %v: %v", endpoint, users, err)
	}
}

// TestResetTakesTurns resets a store while somebody acts on its members.
func TestResetTakesTurns(t *testing.T) {
	parallel(t)
	etcd := startEtcd(t, cluster.Config{})
	client := connect(t, etcd.Endpoints()...)
	if _, err := client.Put(soon(t), "kept", "yes"); err != nil {
		t.Fatal(err)
	}
	pid := etcd.Members[0].PID()
	err := etcd.Exclusively(soon(t), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return etcd.Reset(ctx)
	})
	if err == nil || !strings.Contains(err.Error(), "members are being stopped or started") {
		t.Errorf("a reset in the middle of something else: %v", err)
	}
	if get, err := client.Get(soon(t), "kept"); err != nil || get.Count != 1 || etcd.Members[0].PID() != pid {
		t.Errorf("it did something all the same: %v, %v", get, err)
	}

	var acting sync.WaitGroup
	for range 3 {
		acting.Go(func() {
			if err := etcd.Reset(soon(t)); err != nil {
				t.Error(err)
			}
		})
		acting.Go(func() {
			err := etcd.Exclusively(soon(t), func() error { return etcd.Restart(soon(t), etcd.Members) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	acting.Wait()
	isNew(t, etcd.Endpoints()[0])
}

// TestRestartInTurn restarts members that have ended: the second waits for the
// first, unless both are needed for a majority.
func TestRestartInTurn(t *testing.T) {
	parallel(t)
	etcd := startEtcd(t, cluster.Config{Members: 3})
	for _, m := range etcd.Members[1:] {
		noError(t, m.Kill())
	}
	// The first of the two cannot start while its port is taken.
	listener, err := net.Listen("tcp", etcd.Members[1].Endpoint)
	noError(t, err)
	err = etcd.Restart(soon(t), etcd.Members[1:])
	noError(t, listener.Close())
	if err == nil || !strings.Contains(err.Error(), "start etcd2") || etcd.Members[2].PID() != 0 {
		t.Errorf("the second did not wait: process %d, %v", etcd.Members[2].PID(), err)
	}
	noError(t, etcd.Restart(soon(t), etcd.Members[1:]))

	for _, m := range etcd.Members {
		noError(t, m.Kill())
	}
	noError(t, etcd.Restart(soon(t), etcd.Members))
	if _, err := connect(t, etcd.Endpoints()...).Put(soon(t), "a", "b"); err != nil {
		t.Error(err)
	}
}
