//go:build unix

package tests

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
	"example.com/etcd-by-example/tests/internal/transcript"
)

// slow are the sessions that take half a minute, or more.
var slow = []string{"05-lease", "08-txn-lock", "Three members", "The exercises",
	"The holder that is cut off", "Before class, Build once", "In class, Start it"}

// TestPages follows each session of README.md and of the pages in docs, in the
// terminals that it names, and compares all that is printed with what the page
// shows, and draws the pictures of what etcd has done. With -update it writes what is
// printed into the page, and the pictures into their files instead. For one section
// alone:
//
//	go test ./tests -run Pages/README.md/05-lease -update
//
// With -long the go command runs what the page has it run. Without, that was built
// before: see testdata/go.
func TestPages(t *testing.T) {
	t.Parallel()
	for _, p := range readPages(t) {
		if err := p.Check(); err != nil && !harness.Update() {
			t.Fatalf("%s, %v", p.Name, err)
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			if harness.Update() {
				t.Cleanup(func() { writePage(t, p) })
			}
			for _, session := range p.Sessions() {
				t.Run(session.Name(), func(t *testing.T) {
					if slices.Contains(slow, session.Name()) && !harness.Update() {
						etcdtest.NeedsLong(t, "it waits for leases or links programs")
					}
					t.Parallel()
					t.Cleanup(func() {
						if t.Failed() {
							session.Forget()
						}
					})
					transcript.Play(t, p, session)
				})
			}
		})
	}
}

// writePage puts the page with what was printed into its file, where that differs.
func writePage(t *testing.T, p *transcript.Page) {
	t.Helper()
	rewritten := p.Rewritten()
	if bytes.Equal(rewritten, p.Source) {
		return
	}
	name := filepath.Join(harness.Root, filepath.FromSlash(p.Name))
	switch now, err := os.ReadFile(name); {
	case err != nil:
		t.Error(err)
	case !bytes.Equal(now, p.Source):
		t.Errorf("%s was changed meanwhile, and is left as it is", p.Name)
	default:
		if err := os.WriteFile(name, rewritten, 0o644); err != nil {
			t.Error(err)
		}
	}
}
