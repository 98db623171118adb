package tests

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestClassPorts checks that a class is reached from other machines at the ports that
// docs/CLASS.md names, and at no others.
func TestClassPorts(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcdtest.Reserve(t, 3)
	network, err := harness.NewNetwork(t)
	if err != nil {
		etcdtest.SkipUnlessCI(t, err)
	}
	cmd := exec.Command(harness.Program(t, "classroom"), "-class", "-members", "3", "-board", "127.0.0.1:8400")
	cmd.Dir, cmd.Env = harness.Root, harness.Env("XDG_CACHE_HOME="+t.TempDir())
	var running *harness.Running
	etcdtest.NoError(t, network(func() error {
		running = harness.Command(t, cmd)
		return nil
	}))
	running.Await(t, "Ctrl-C ends the class.")
	var tables []byte
	etcdtest.NoError(t, network(func() error {
		for _, name := range []string{"tcp", "tcp6"} {
			table, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			tables = append(tables, table...)
		}
		return nil
	}))
	var open, inside []uint64
	// An address of IPv6 is four times as long. 0A is a socket that listens.
	for _, found := range regexp.MustCompile(`(?m)^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) [0-9A-F:]+ 0A `).FindAllSubmatch(tables, -1) {
		port, err := strconv.ParseUint(string(found[2]), 16, 16)
		etcdtest.NoError(t, err)
		if string(found[1]) == "0100007F" {
			inside = append(inside, port)
		} else {
			open = append(open, port)
		}
	}
	slices.Sort(open)
	if want := []uint64{2378, 2380, 2382, 2384}; !slices.Equal(open, want) {
		t.Errorf("open to other machines: %v, want %v", open, want)
	}
	for _, port := range []uint64{2377, 2379, 8400} {
		if !slices.Contains(inside, port) {
			t.Errorf("for this machine: %v, want %d among them:\n%s", inside, port, running.Stdout)
		}
	}
}

// TestPortForbidden starts classrooms where the system forbids the ports: below 1024 to
// all but root, and those that are chosen freely to everybody.
func TestPortForbidden(t *testing.T) {
	t.Parallel()
	network, err := harness.NewNetwork(t)
	if err != nil {
		etcdtest.SkipUnlessCI(t, err)
	}
	code := "127.0.0.1/0000-0000-0000-0000"
	for _, c := range []struct {
		name, words string
		args        []string
	}{
		{"one that was chosen", "127.0.0.1:80: bind: permission denied", []string{"-port", "80"}},
		{"of a class", "127.0.0.1:78: bind: permission denied", []string{"-class", "-port", "80"}},
		{"of a desk", "127.0.0.1:78: bind: permission denied", []string{"join", "-port", "80", code, "ann"}},
		{"all free ones", "bind: permission denied", []string{"tour"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(harness.Program(t, "classroom"), c.args...)
			cmd.Dir, cmd.Env = harness.Root, harness.Env()
			var running *harness.Running
			etcdtest.NoError(t, network(func() error {
				if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("32001"), 0); err != nil {
					return err
				}
				// What this thread starts may not do it either, although it is root's.
				if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_BIND_SERVICE, 0, 0, 0); err != nil {
					return err
				}
				running = harness.Command(t, cmd)
				return nil
			}))
			got := running.Wait(t)
			if got.Status != 1 || !strings.Contains(got.Stderr, c.words) || strings.Contains(got.Stderr, "taken") ||
				strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("status %d, want one line with %q:\n%s%s", got.Status, c.words, got.Stdout, got.Stderr)
			}
		})
	}
}
