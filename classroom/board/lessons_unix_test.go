//go:build unix

package board

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// sleeper prints the process IDs of itself and of a child, and cleans up when it
// is asked to end, unless it is deaf.
const sleeper = `package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

const deaf = false

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	child := exec.Command("sh", "-c", "trap '' INT; while :; do sleep 1; done")
	child.Start()
	fmt.Println("processes", os.Getpid(), child.Process.Pid)
	for s := range signals {
		if !deaf {
			fmt.Println("cleaned up after", s)
			os.Exit(1)
		}
	}
	time.Sleep(time.Hour)
	_ = syscall.SIGINT
}
`

var processes = regexp.MustCompile(`processes (\d+) (\d+)`)

// TestStop stops lessons that have started a process of their own: one that
// cleans up, one that is paused, one that is deaf, and one when the board ends.
func TestStop(t *testing.T) {
	t.Parallel()
	root := workspace(t, sleeper)
	deaf := strings.Replace(sleeper, "deaf = false", "deaf = true", 1)
	write(t, filepath.Join(root, "02-put", "main.go"), deaf)
	l, server, page := serveLessons(t, root)
	for _, c := range []struct {
		name, lesson string
		paused       bool
		state        string
	}{
		{"clean", "01-connect", false, "stopped, status 1, "},
		{"paused", "01-connect", true, "stopped, status 1, "},
		{"deaf", "02-put", false, "stopped, signal: killed, "},
		{"board ends", "01-connect", false, "stopped, status 1, "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "deaf" {
				etcdtest.NeedsLong(t, "a lesson is given its time to end")
			}
			if status, text := post(t, server, "/lesson/"+c.lesson+"/run?slot=1", ""); status != http.StatusAccepted {
				t.Fatalf("status %d: %s", status, text)
			}
			shows(t, page, "terminal-1-output", "processes")
			found := processes.FindStringSubmatch(page.text("terminal-1-output"))
			if c.paused {
				if status, text := post(t, server, "/lesson/pause?slot=1", ""); status != http.StatusNoContent {
					t.Fatalf("pause: status %d: %s", status, text)
				}
				shows(t, page, "terminal-1-state", "paused")
			}
			if c.name == "board ends" {
				l.close()
			} else if status, text := post(t, server, "/lesson/stop?slot=1", ""); status != http.StatusNoContent {
				t.Fatalf("stop: status %d: %s", status, text)
			}
			shows(t, page, "terminal-1-state", c.state)
			if c.lesson == "01-connect" && !strings.Contains(page.text("terminal-1-output"), "cleaned up after interrupt") {
				t.Errorf("it did not clean up:\n%s", page.text("terminal-1-output"))
			}
			for _, pid := range found[1:] {
				gone(t, pid)
			}
		})
	}
}

// gone waits until there is no process with that ID.
func gone(t *testing.T, pid string) {
	t.Helper()
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); syscall.Kill(number, 0) == nil; {
		if time.Now().After(deadline) {
			t.Errorf("process %d is still there", number)
			syscall.Kill(number, syscall.SIGKILL)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
