package tests

import (
	"context"
	"os"
	"runtime"
	"strings"
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
