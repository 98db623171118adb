//go:build unix

package tests

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"example.com/etcd-by-example/tests/internal/harness"
	"example.com/etcd-by-example/tests/internal/transcript"
)

// players is how many sessions run side by side. More would not leave a
// learner's time to each command: leases run meanwhile.
const players = 2

// slow are the sections that take longest. They come first, so that none of them
// is left for the end.
var slow = []string{"08-txn-lock", "05-lease", "06-watch", "Three members"}

// TestPages follows each session of README.md and of the pages in docs, in the
// terminals that it names, and compares all that is printed with what the page
// shows, and draws the pictures of what etcd has done. With -update it writes what is
// printed into the page, and the pictures into their files instead. For one section
// alone:
//
//	go test ./tests -run Pages/README.md/05-lease -update
func TestPages(t *testing.T) {
	t.Parallel()
	type task struct {
		page    *transcript.Page
		session transcript.Session
	}
	var tasks []task
	pages := readPages(t)
	for _, p := range pages {
		if err := p.Check(); err != nil && !harness.Update() {
			t.Fatalf("%s, %v", p.Name, err)
		}
		for _, session := range p.Sessions() {
			tasks = append(tasks, task{p, session})
		}
	}
	rank := func(t task) int {
		if i := slices.Index(slow, t.session[0].Section); i >= 0 {
			return i
		}
		return len(slow)
	}
	slices.SortStableFunc(tasks, func(a, b task) int { return rank(a) - rank(b) })
	queue := make(chan task, len(tasks))
	for _, task := range tasks {
		queue <- task
	}
	close(queue)
	var playing sync.WaitGroup
	for range players {
		playing.Go(func() {
			for task := range queue {
				if !t.Run(task.page.Name+"/"+task.session.Name(), func(t *testing.T) {
					transcript.Play(t, task.page, task.session)
				}) {
					task.session.Forget()
				}
			}
		})
	}
	playing.Wait()
	if harness.Update() {
		for _, p := range pages {
			writePage(t, p)
		}
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
