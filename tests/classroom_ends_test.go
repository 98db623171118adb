//go:build unix

package tests

import (
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestNoEtcdOutlivesClassroom ends a classroom with three members in every way
// that a program can end, one member being paused. SIGQUIT ends a Go program
// as a panic does: with a stack trace, and with nothing cleaned up.
func TestNoEtcdOutlivesClassroom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		clean  bool // it also removes its folder
		paused bool // a member is paused when it ends
		long   bool // it takes -long
	}{
		{"SIGINT", syscall.SIGINT, true, false, false},
		{"SIGTERM", syscall.SIGTERM, true, true, true},
		{"SIGHUP", syscall.SIGHUP, true, false, true},
		{"SIGKILL", syscall.SIGKILL, false, false, true},
		{"SIGKILL, a member paused", syscall.SIGKILL, false, true, false},
		{"panic", syscall.SIGQUIT, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long {
				etcdtest.NeedsLong(t, "three members")
			}
			t.Parallel()
			etcdtest.Reserve(t, 3)
			temporary := t.TempDir()
			classroom := harness.Start(t, "", []string{"TMPDIR=" + temporary}, "classroom",
				"-board", "127.0.0.1:0", "-members", "3", "-port", strconv.Itoa(harness.FreePorts(t, 6)))
			classroom.Await(t, "Ctrl-C stops it.")
			members := harness.Children(t, classroom.Process.Pid)
			t.Cleanup(func() {
				// Only where the test has failed is one of them still there.
				for _, pid := range members {
					if t.Failed() && harness.Alive(pid) {
						syscall.Kill(pid, syscall.SIGKILL)
					}
				}
			})
			if len(members) != 3 {
				t.Fatalf("members: %v", members)
			}
			if c.paused {
				harness.NoError(t, syscall.Kill(members[1], syscall.SIGSTOP))
			}
			harness.NoError(t, classroom.Process.Signal(c.signal))
			classroom.Wait(t)
			harness.Eventually(t, "all members have ended", func() bool {
				return !slices.ContainsFunc(members, harness.Alive)
			})
			if c.clean {
				harness.NothingLeft(t, temporary)
			}
		})
	}
}

// TestNoLessonOutlivesBoard ends a classroom while its board runs two lessons.
// After Ctrl-C the lessons have cleaned up in the etcd, which ends after them.
func TestNoLessonOutlivesBoard(t *testing.T) {
	etcdtest.NeedsLong(t, "two classrooms")
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			etcdtest.Reserve(t, 1)
			classroom := harness.Start(t, "", nil, "classroom", "-board", "127.0.0.1:0",
				"-port", strconv.Itoa(harness.FreePorts(t, 2)))
			classroom.Await(t, "Ctrl-C stops it.")
			first, _, _ := strings.Cut(classroom.Stdout.String(), "\n")
			address, found := strings.CutPrefix(first, "The board is at ")
			if !found {
				t.Fatalf("no address of the board:\n%s", classroom.Stdout)
			}
			for slot, run := range []struct{ lesson, flags string }{
				{"08-txn-lock", "work=5m"}, {"06-watch", "for=5m"},
			} {
				answer, err := http.Post(fmt.Sprintf("%slesson/%s/run?slot=%d", address, run.lesson, slot+1),
					"application/x-www-form-urlencoded", strings.NewReader(run.flags))
				harness.NoError(t, err)
				answer.Body.Close()
				if answer.StatusCode != http.StatusAccepted {
					t.Fatalf("run %s: %s", run.lesson, answer.Status)
				}
			}
			var processes []int
			harness.Eventually(t, "etcd and two lessons run", func() bool {
				processes = harness.Children(t, classroom.Process.Pid)
				return len(processes) == 3 && lessonsOf(processes) == 2
			})
			harness.NoError(t, classroom.Process.Signal(signal))
			if got := classroom.Wait(t); signal == syscall.SIGINT && (got.Status != 0 || got.Stderr != "") {
				t.Errorf("status %d\n%s", got.Status, got.Stderr)
			}
			harness.Eventually(t, "all processes have ended", func() bool {
				return !slices.ContainsFunc(processes, harness.Alive)
			})
		})
	}
}

// lessonsOf returns how many of the processes are lessons, and no compiler.
func lessonsOf(processes []int) (count int) {
	for _, pid := range processes {
		name, err := exec.Command("ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
		if err == nil && strings.Contains(string(name), "etcd-by-example") &&
			slices.ContainsFunc(harness.Lessons, func(lesson string) bool {
				return strings.Contains(string(name), "/"+lesson)
			}) && !strings.Contains(string(name), "go build") {
			count++
		}
	}
	return count
}

// TestInterruptedTour checks that a tour passes Ctrl-C on to its lesson, and
// leaves nothing.
func TestInterruptedTour(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	temporary := t.TempDir()
	tour := harness.Start(t, "", []string{"TMPDIR=" + temporary, builtBefore()}, "classroom", "tour", "08-txn-lock")
	tour.Await(t, "has the lock")
	processes := harness.Children(t, tour.Process.Pid)
	if len(processes) != 2 {
		t.Fatalf("processes of the tour: %v", processes)
	}
	harness.Interrupt(t, tour)
	got := tour.Wait(t)
	if got.Status != 1 || !strings.Contains(got.Stderr, "08-txn-lock: interrupted") ||
		!strings.Contains(got.Stderr, "the tour was interrupted in 08-txn-lock") {
		t.Errorf("status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	harness.Eventually(t, "all processes have ended", func() bool {
		return !slices.ContainsFunc(processes, harness.Alive)
	})
	harness.NothingLeft(t, temporary)
}
