// Package harness is what the tests stand on: real etcds, clients, the lessons and the
// classroom as programs, and what is between them. A function that takes a test
// fails it when it cannot do what it says. What it starts ends with the test.
package harness

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/cluster"
)

// Root is the folder of the repository. Main sets it.
var Root string

// findRoot returns the folder of the workspace that the working folder is in. The
// mutants run the tests in a copy of it.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", errors.New("the tests do not run in the repository: there is no go.work")
		}
		dir = above
	}
}

// Lessons are the names of the lessons, which are those of their folders, in order.
var Lessons = []string{
	"01-connect", "02-put", "03-get", "04-delete",
	"05-lease", "06-watch", "07-op", "08-txn-lock",
}

// Main runs the tests of a package: its TestMain does nothing else. A member of an
// etcd is this program again, and goes no further than into the etcd.
func Main(m *testing.M) {
	cluster.Main()
	flag.Parse()
	flag.Set("test.parallel", "1000") // See Parallel.
	var err error
	if Root, err = findRoot(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if built, err = os.MkdirTemp("", "built-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built)
	if standIn != "" {
		exec.Command("docker", "image", "rm", "--force", standIn).Run()
	}
	os.Exit(code)
}

// slots bounds how many tests run side by side. They wait more than they compute.
var slots = make(chan struct{}, 4)

// Parallel has a test run beside others, when a slot is free. t.Parallel alone is
// for tests of which only the parallel subtests need one, for TestTour, which waits
// for its lessons, and for TestPages, which must not wait for a slot: it follows the
// pages in real time. A test that from some point on only waits calls leave there,
// and gives its slot to another.
func Parallel(t *testing.T) (leave func()) {
	t.Helper()
	return ParallelIn(t, slots)
}

// ParallelIn is Parallel for tests that have slots of their own.
func ParallelIn(t *testing.T, slots chan struct{}) (leave func()) {
	t.Helper()
	t.Parallel()
	slots <- struct{}{}
	leave = sync.OnceFunc(func() { <-slots })
	t.Cleanup(leave)
	return leave
}
