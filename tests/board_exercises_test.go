//go:build unix

package tests

import (
	"context"
	"net/http"
	"testing"

	"example.com/etcd-by-example/classroom/board"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// boardExercises looks at the page of the exercises while a learner works in a terminal.
// The page follows by itself.
func boardExercises(t *testing.T, browser context.Context) {
	etcdtest.Reserve(t, 4) // Those of a check, and the board's.
	d := &desk{t: t, root: harness.CopyOfTree(t), tmp: t.TempDir(), processors: 1}
	b := startBoard(t, etcdtest.Etcd(t, cluster.Config{}), board.Config{Root: d.root})
	p := open(t, browser, "http://"+b.Address()+"/")
	p.click(`#top a[href="/exercises"]`)
	p.says("#exercises .task", "Exercise 01: ")
	p.says("#exercises nav", "0 of 9 passed")
	p.says("#exercises [aria-current]", "→ 01-connect not started")
	p.click(`a[href="/exercises/02-put"]`)
	p.says("#exercises .task", "go -C my run ./02-put")
	p.says("#exercises .task", "go run ./classroom check start 02")
	if answer := eval[int](p, `fetch("/exercises/02-put/refused.svg").then((answer) => answer.status)`); answer != http.StatusNotFound {
		t.Errorf("the picture of no refusal: status %d", answer)
	}
	p.mu.Lock()
	p.complaints = nil // That was one.
	p.mu.Unlock()

	d.run(0, "check", "start", "02")
	p.says("#verdict", "Not checked yet")
	d.run(1, "check", "02")
	p.says("#verdict", "Refused in the round “empty”")
	p.says(".rounds", "✓ start: passed")
	p.says(".rounds .refused", "✗ empty: refused")
	p.says(".finding", "There was no key /visits. ann was counted at revision 2, but then")
	p.says("#exercises [aria-current]", "02-put refused")
	p.until("the picture is there", `document.querySelector(".picture img").naturalWidth > 300`)
	picture := eval[string](p, `fetch(document.querySelector(".picture img").src).then((answer) => answer.text())`)
	d.want(picture, "What etcd recorded when 02-put was refused", "There was no key /visits.", "panic:")

	if count := named(t, p); count["link"] < 10 || count["image"] != 1 || count["navigation"] != 2 {
		t.Errorf("too little was looked at: %v", count)
	}
	for _, scheme := range []string{"light", "dark"} {
		screenshot(t, p, "exercises", 1280, 1040, scheme)
		contrast(t, p, scheme)
	}
	p.size(390, 844) // A phone.
	p.narrow(390)

	// A guest sees it, too.
	guest := open(t, browser, "http://"+b.Public()+"/")
	guest.click(`#top a[href="/exercises"]`)
	guest.click(`a[href="/exercises/02-put"]`)
	guest.says("#verdict", "Refused")

	d.write("my/02-put/main.go", d.read("exercises/solutions/02-put/main.go"))
	p.says("#verdict", "before your last change")
	d.run(0, "check", "02")
	p.says("#verdict", "Passed")
	p.says("#exercises nav", "1 of 9 passed")
	guest.says("#exercises [aria-current]", "✓ 02-put passed")
	d.write("my/02-put/main.go", "package main\n\nfunc main() { <b>\n")
	d.run(2, "check", "02")
	p.says("#verdict", "It does not compile")
	p.says(".verdict pre", "02-put/main.go:3")
	guest.quiet()
	p.quiet()

	etcdtest.NoError(t, b.Close())
	p.until("it says that the board is gone", `document.getElementById("lost").checkVisibility()`)
}
