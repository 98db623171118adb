//go:build unix

package harness

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// Children returns the process IDs of the children of pid.
func Children(t *testing.T, pid int) []int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), etcdtest.Limit)
	defer cancel()
	list, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=,ppid=").Output()
	etcdtest.NoError(t, err)
	var children []int
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(fields[0])
			etcdtest.NoError(t, err)
			children = append(children, child)
		}
	}
	return children
}

// Alive reports whether a process runs. One that has ended, and that nobody
// has waited for yet, does not.
func Alive(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(string(state), "Z")
}
