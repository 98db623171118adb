//go:build unix

package tests

import (
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

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
			classroom := serve(t, harness.FreePorts(t, 6), []string{"TMPDIR=" + temporary}, "-members", "3")
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
				etcdtest.NoError(t, syscall.Kill(members[1], syscall.SIGSTOP))
			}
			etcdtest.NoError(t, classroom.Process.Signal(c.signal))
			classroom.Wait(t)
			allEnd(t, members)
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
			classroom := serve(t, harness.FreePorts(t, 2), nil)
			address := boardAddress.FindStringSubmatch(classroom.Stdout.String())[1]
			for slot, run := range []struct{ lesson, flags string }{
				{"08-txn-lock", "work=5m"}, {"06-watch", "for=5m"},
			} {
				answer, err := http.Post(fmt.Sprintf("%slesson/%s/run?slot=%d", address, run.lesson, slot+1),
					"application/x-www-form-urlencoded", strings.NewReader(run.flags))
				etcdtest.NoError(t, err)
				answer.Body.Close()
				if answer.StatusCode != http.StatusAccepted {
					t.Fatalf("run %s: %s", run.lesson, answer.Status)
				}
			}
			client := etcdtest.Connect(t, classroom.endpoints(1)...)
			for _, written := range []string{"/cron/lock/job9", "/cron/jobs/watch/"} {
				etcdtest.Eventually(t, "a lesson has written "+written, func() bool {
					get, err := client.Get(etcdtest.Soon(t), written, clientv3.WithPrefix())
					return err == nil && get.Count > 0
				})
			}
			processes := harness.Children(t, classroom.Process.Pid)
			if len(processes) != 3 {
				t.Fatalf("processes of etcd and two lessons: %v", processes)
			}
			etcdtest.NoError(t, classroom.Process.Signal(signal))
			if got := classroom.Wait(t); signal == syscall.SIGINT && (got.Status != 0 || got.Stderr != "") {
				t.Errorf("status %d\n%s", got.Status, got.Stderr)
			}
			allEnd(t, processes)
		})
	}
}

func allEnd(t *testing.T, processes []int) {
	t.Helper()
	etcdtest.Eventually(t, "all processes have ended", func() bool {
		return !slices.ContainsFunc(processes, harness.Alive)
	})
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
	expect(t, tour.Wait(t), 1, "08-txn-lock: interrupted", "the tour was interrupted in 08-txn-lock")
	allEnd(t, processes)
	harness.NothingLeft(t, temporary)
}

// TestHangUpIsIgnored hangs up on a class and a desk that were started with nohup: they
// go on.
func TestHangUpIsIgnored(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	nohup := func(args ...string) *harness.Running {
		cmd := exec.Command("nohup", append([]string{harness.Program(t, "classroom")}, args...)...)
		// The key of the desk lies there.
		cmd.Env = harness.Env("XDG_CONFIG_HOME=" + t.TempDir())
		return harness.Command(t, cmd)
	}
	port := harness.FreePorts(t, 8) + 2
	class := nohup("-class", "-board", "off", "-port", strconv.Itoa(port))
	class.Await(t, "Ctrl-C ends the class.")
	code := regexp.MustCompile(`join (\S+) NAME`).FindStringSubmatch(class.Stdout.String())[1]
	_, code, _ = strings.Cut(code, "/")
	deskPort := strconv.Itoa(port + 5)
	desk := nohup("join", fmt.Sprintf("127.0.0.1:%d/%s", port-1, code), "ann", "-port", deskPort)
	desk.Await(t, "Ctrl-C leaves.")
	for _, p := range []*harness.Running{desk, class} {
		etcdtest.NoError(t, p.Process.Signal(syscall.SIGHUP))
	}
	for _, args := range [][]string{{"member", "restart", "etcd1", "-port", strconv.Itoa(port)}, {"reset", "-port", deskPort}} {
		cmd := exec.Command(harness.Program(t, "classroom"), args...)
		cmd.Env = harness.Env()
		if got := harness.Command(t, cmd).Wait(t); got.Status != 0 {
			t.Errorf("%s: status %d\n%s", strings.Join(args, " "), got.Status, got.Stderr)
		}
	}
	for _, p := range []*harness.Running{desk, class} {
		if p.HasEnded() {
			t.Errorf("it has ended:\n%s%s", p.Stdout, p.Stderr)
		}
		harness.Interrupt(t, p)
		if got := p.Wait(t); got.Status != 0 {
			t.Errorf("status %d\n%s", got.Status, got.Stderr)
		}
	}
}
