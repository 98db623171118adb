// Package harness is what the tests stand on: real etcds, clients, the lessons and the
// classroom as programs, and what is between them. A function that takes a test
// fails it when it cannot do what it says. What it starts ends with the test.
package harness

import (
	"context"
	"testing"

	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/etcdtest"
)

// Root is the folder of the repository, and built that of its programs. Main sets them.
var Root, built string

// Lessons are the names of the lessons, which are those of their folders, in order.
var Lessons = course.Names

// Main runs the tests of a package: its TestMain does nothing else. See etcdtest.Main.
func Main(m *testing.M) {
	etcdtest.Main(m, func() (err error) {
		if Root, err = course.Root(context.Background()); err == nil {
			built, err = course.Folder(Root)
		}
		return err
	})
}
