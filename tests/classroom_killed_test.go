//go:build unix

package tests

import (
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestKilled kills a member from outside, of which the classroom tells, and then the
// classroom itself: its folder goes when another one starts, and that of one that runs
// stays.
func TestKilled(t *testing.T) {
	etcdtest.NeedsLong(t, "three classrooms")
	t.Parallel()
	etcdtest.Reserve(t, 2)
	folder := regexp.MustCompile(`data +(\S+) \(removed at the end\)`)
	open := func() (classroom, string) {
		t.Helper()
		c := serve(t, harness.FreePorts(t, 2), nil, "-board", "off")
		return c, folder.FindStringSubmatch(c.Stdout.String())[1]
	}
	killed, left := open()
	members := harness.Children(t, killed.Process.Pid)
	if len(members) != 1 {
		t.Fatalf("it has the children %v", members)
	}
	etcdtest.NoError(t, syscall.Kill(members[0], syscall.SIGKILL))
	want := "classroom: etcd1 has ended by itself, signal: killed; its log is " + left + "/etcd1.log; " +
		"to start it: go run ./classroom -port " + strconv.Itoa(killed.port) + " member restart etcd1\n"
	etcdtest.Eventually(t, "it says so", func() bool { return killed.Stderr.String() != "" })
	if got := killed.Stderr.String(); got != want {
		t.Errorf("it says\n%swant\n%s", got, want)
	}
	for _, action := range []string{"restart", "kill", "restart", "stop", "restart"} {
		expect(t, killed.act(t, "member", action, "etcd1"), 0)
	}
	if got := killed.Stderr.String(); got != want {
		t.Errorf("of what users do to it, it says\n%s", got)
	}

	_, stays := open()
	killed.Process.Kill()
	<-killed.Ended
	if _, err := os.Stat(left); err != nil {
		t.Errorf("its folder is gone before another one starts: %v", err)
	}
	open()
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the folder of the one that was killed: %v", err)
	}
	if _, err := os.Stat(stays); err != nil {
		t.Errorf("the folder of one that runs: %v", err)
	}
}
