//go:build unix

package tests

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestOneHomeTwoNetworks has a classroom at the same port in each of two networks, as
// containers with the same home have them. A command reaches that of its own network.
func TestOneHomeTwoNetworks(t *testing.T) {
	t.Parallel()
	var networks [2]harness.Network
	for i := range networks {
		network, err := harness.NewNetwork(t)
		if err != nil {
			etcdtest.Skip(t, err.Error())
		}
		networks[i] = network
	}
	etcdtest.Reserve(t, 2)
	port := strconv.Itoa(harness.FreePorts(t, 2))
	start := func(in harness.Network, args ...string) (p *harness.Running) {
		etcdtest.NoError(t, in(func() error {
			p = harness.Start(t, "", nil, "classroom", args...)
			return nil
		}))
		return p
	}
	var pids []string
	var classrooms []*harness.Running
	for _, in := range networks {
		p := start(in, "-board", "off", "-port", port)
		p.Await(t, "Ctrl-C stops it.")
		classrooms = append(classrooms, p)
	}
	for i, in := range networks {
		got := start(in, "member", "list", "-port", port).Wait(t)
		_, pid, _ := strings.Cut(strings.TrimSpace(got.Stdout), "process ")
		if pid == "" {
			t.Fatalf("network %d: status %d\n%s%s", i, got.Status, got.Stdout, got.Stderr)
		}
		pids = append(pids, pid)
	}
	if pids[0] == pids[1] {
		t.Errorf("both reach the member with process %s", pids[0])
	}
	for i, p := range classrooms {
		harness.Interrupt(t, p)
		p.Wait(t)
		got := start(networks[1-i], "member", "list", "-port", port).Wait(t)
		if none := strings.Contains(got.Stderr, "no classroom runs on port"); none != (i == 1) {
			t.Errorf("after the end of %d, the other says: %s%s", i, got.Stdout, got.Stderr)
		}
	}
}

// TestLongCacheFolder has the classroom's commands in a folder whose path is longer than
// that of a socket may be.
func TestLongCacheFolder(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	port, temporary := strconv.Itoa(harness.FreePorts(t, 2)), t.TempDir()
	long := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	etcdtest.NoError(t, os.MkdirAll(long, 0o700))
	// By what the systems call them.
	env := []string{"XDG_CACHE_HOME=" + long, "HOME=" + long, "LocalAppData=" + long}
	serving := harness.Start(t, "", append(env, "TMPDIR="+temporary), "classroom", "-board", "off", "-port", port)
	serving.Await(t, "Ctrl-C stops it.")
	if got := harness.Run(t, "", append(env, "TMPDIR="+temporary), "classroom", "reset", "-port", port); got.Status != 0 {
		t.Errorf("reset: status %d\n%s", got.Status, got.Stderr)
	}
	harness.Interrupt(t, serving)
	if got := serving.Wait(t); got.Status != 0 {
		t.Errorf("status %d\n%s", got.Status, got.Stderr)
	}
	harness.NothingLeft(t, temporary)
	if left, err := filepath.Glob(filepath.Join(long, "*", "*.sock")); err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
}
