//go:build unix

package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestLittleRoom has temporary files on a disk of a few megabytes: a classroom runs
// there, and one that has no room says so, whatever it wants to write.
func TestLittleRoom(t *testing.T) {
	if err := mayMount(); err != nil {
		etcdtest.Skip(t, err.Error())
	}
	t.Parallel()
	d := newDesk(t)
	d.tmp = mountDisk(t, fmt.Sprint("size=", 1<<20))
	no := "no room in " + d.tmp
	port := strconv.Itoa(harness.FreePorts(t, 2))
	d.want(d.run(1, "-board", "off", "-port", port),
		"classroom: start etcd1: "+no+": make some, or name another folder with TMPDIR\n")
	d.run(0, "check", "start", "04")
	d.want(d.run(3, "check", "04"), "classroom: no program builds here, which says nothing of yours: ")
	d.nothingLeft()

	d.tmp = mountDisk(t, fmt.Sprint("size=", 4<<20))
	serving := d.start("-board", "off", "-port", port)
	serving.Await(t, "Ctrl-C stops it.")
	client := etcdtest.Connect(t, "127.0.0.1:"+port)
	value := strings.Repeat("x", 1<<20)
	etcdtest.Eventually(t, "it says that there is no room left", func() bool {
		put, done := context.WithTimeout(t.Context(), 2*time.Second) // The member ends.
		defer done()
		client.Put(put, "large", value)
		return strings.Contains(serving.Stderr.String(), "no room in "+d.tmp)
	})
	harness.Interrupt(t, serving)
	serving.Wait(t)
	d.nothingLeft()
}

// TestChecksFitInMemory checks all exercises side by side with little room for temporary
// files, as where those are in memory.
func TestChecksFitInMemory(t *testing.T) {
	etcdtest.NeedsLong(t, "all checks")
	if err := mayMount(); err != nil {
		etcdtest.Skip(t, err.Error())
	}
	t.Parallel()
	// Eight processors take at most twice as much as these do.
	const processors = 3
	etcdtest.Reserve(t, 3*processors)
	d := openDesk(t)
	d.processors, d.tmp = processors, mountDisk(t, fmt.Sprint("size=", 200<<20))
	for _, e := range check.Exercises {
		d.run(0, "check", "start", e.Name)
		solution, err := os.ReadFile(filepath.Join(d.root, "exercises", "solutions", e.Name, "main.go"))
		etcdtest.NoError(t, err)
		d.write(filepath.Join("my", e.Name, "main.go"), string(solution))
	}
	if said := d.run(0, "check", "all"); strings.Count(said, "✓") != len(check.Exercises) {
		t.Errorf("not all have passed:\n%s", said)
	}
	d.nothingLeft()
}
