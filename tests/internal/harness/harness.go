// Package harness is what the tests stand on: real etcds, clients, the lessons and the
// classroom as programs, and what is between them. A function that takes a test
// fails it when it cannot do what it says. What it starts ends with the test.
package harness

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/etcdtest"
)

// Root is the folder of the repository, and built that of its programs. Main sets them.
var Root, built string

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

// Main runs the tests of a package: its TestMain does nothing else. See etcdtest.Main.
func Main(m *testing.M) {
	etcdtest.Main(m, func() (err error) {
		if Root, err = findRoot(); err == nil {
			built, err = course.Folder(Root)
		}
		return err
	})
}
