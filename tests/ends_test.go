//go:build unix

package tests

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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
	}{
		{"SIGINT", syscall.SIGINT, true, false},
		{"SIGTERM", syscall.SIGTERM, true, true},
		{"SIGHUP", syscall.SIGHUP, true, false},
		{"SIGKILL", syscall.SIGKILL, false, false},
		{"SIGKILL, a member paused", syscall.SIGKILL, false, true},
		{"panic", syscall.SIGQUIT, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			temporary := t.TempDir()
			classroom := start(t, "", []string{"TMPDIR=" + temporary}, "classroom",
				"-board", "127.0.0.1:0", "-members", "3", "-port", strconv.Itoa(freePort(t, 6)))
			classroom.await(t, "Ctrl-C stops it.")
			members := children(t, classroom.Process.Pid)
			t.Cleanup(func() {
				// Only where the test has failed is one of them still there.
				for _, pid := range members {
					if t.Failed() && alive(pid) {
						syscall.Kill(pid, syscall.SIGKILL)
					}
				}
			})
			if len(members) != 3 {
				t.Fatalf("members: %v", members)
			}
			if c.paused {
				if err := syscall.Kill(members[1], syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			if err := classroom.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			classroom.wait(t)
			eventually(t, 10*time.Second, "all members have ended", func() bool {
				return !slices.ContainsFunc(members, alive)
			})
			if c.clean {
				empty(t, temporary)
			}
		})
	}
}

// TestNoLessonOutlivesBoard ends a classroom while its board runs two lessons.
// After Ctrl-C the lessons have cleaned up in the etcd, which ends after them.
func TestNoLessonOutlivesBoard(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			parallel(t)
			classroom := start(t, "", nil, "classroom", "-board", "127.0.0.1:0",
				"-port", strconv.Itoa(freePort(t, 2)))
			classroom.await(t, "Ctrl-C stops it.")
			first, _, _ := strings.Cut(classroom.stdout.String(), "\n")
			address, found := strings.CutPrefix(first, "The board is at ")
			if !found {
				t.Fatalf("no address of the board:\n%s", classroom.stdout)
			}
			for slot, run := range []struct{ lesson, flags string }{
				{"08-txn-lock", "work=5m"}, {"06-watch", "for=5m"},
			} {
				answer, err := http.Post(fmt.Sprintf("%slesson/%s/run?slot=%d", address, run.lesson, slot+1),
					"application/x-www-form-urlencoded", strings.NewReader(run.flags))
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				if answer.StatusCode != http.StatusAccepted {
					t.Fatalf("run %s: %s", run.lesson, answer.Status)
				}
			}
			var processes []int
			eventually(t, time.Minute, "etcd and two lessons run", func() bool {
				processes = children(t, classroom.Process.Pid)
				return len(processes) == 3 && lessonsOf(processes) == 2
			})
			if err := classroom.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if got := classroom.wait(t); signal == syscall.SIGINT && (got.status != 0 || got.stderr != "") {
				t.Errorf("status %d\n%s", got.status, got.stderr)
			}
			eventually(t, 10*time.Second, "all processes have ended", func() bool {
				return !slices.ContainsFunc(processes, alive)
			})
		})
	}
}

// lessonsOf returns how many of the processes are lessons, and no compiler.
func lessonsOf(processes []int) (count int) {
	for _, pid := range processes {
		name, err := exec.Command("ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
		if err == nil && strings.Contains(string(name), "etcd-by-example") &&
			slices.ContainsFunc(lessons, func(lesson string) bool {
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
	parallel(t)
	temporary := t.TempDir()
	tour := start(t, "", []string{"TMPDIR=" + temporary}, "classroom", "tour", "08-txn-lock")
	tour.await(t, "has the lock")
	processes := children(t, tour.Process.Pid)
	if len(processes) != 2 {
		t.Fatalf("processes of the tour: %v", processes)
	}
	interrupt(t, tour)
	got := tour.wait(t)
	if got.status != 1 || !strings.Contains(got.stderr, "08-txn-lock: interrupted") ||
		!strings.Contains(got.stderr, "the tour was interrupted in 08-txn-lock") {
		t.Errorf("status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
	eventually(t, 10*time.Second, "all processes have ended", func() bool {
		return !slices.ContainsFunc(processes, alive)
	})
	empty(t, temporary)
}

// children returns the process IDs of the children of pid.
func children(t *testing.T, pid int) []int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	list, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		t.Fatal(err)
	}
	var children []int
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatal(err)
			}
			children = append(children, child)
		}
	}
	return children
}

// alive reports whether a process runs. One that has ended, and that nobody
// has waited for yet, does not.
func alive(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(string(state), "Z")
}
