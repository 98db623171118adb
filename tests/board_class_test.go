//go:build unix

package tests

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/board"
	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// learner is an expression for what the roster shows of a learner: whether they are here,
// their lesson, and how many keys they have.
func learner(name string) string {
	return fmt.Sprintf(`(({ dataset, cells }) => [dataset.state, cells[1].textContent, cells[3].textContent].join())(
		document.querySelector('#roster [data-learner=%q]'))`, name)
}

// shows returns when the roster shows so of a learner.
func (p *tab) shows(name, want string) {
	p.t.Helper()
	p.until(name+" is "+want, fmt.Sprintf(`%s === %q`, learner(name), want))
}

// asked presses a handle and returns what is asked then.
func (p *tab) asked(handle string) string {
	p.t.Helper()
	p.click(handle)
	p.until("it asks", `document.getElementById("ask").open`)
	return p.text("#question")
}

func (p *tab) answer(answer string) {
	p.t.Helper()
	p.click(fmt.Sprintf("#ask button[value=%q]", answer))
	p.until("the question is gone", `!document.getElementById("ask").open`)
}

// prefixes returns what is before the keys of the table, and of the timeline's lanes.
func (p *tab) prefixes() string {
	p.t.Helper()
	return eval[string](p, `[...new Set([...document.querySelectorAll("#keys tbody th, #timeline .lanes title")]
		.map((key) => key.textContent.match(/^[^:]*:?/)[0]))].join(" ")`)
}

// boardClass looks at the board of a class with the real program, as the teacher and as
// a guest, while learners join, work, are reset, removed and freed.
func boardClass(t *testing.T, browser context.Context) {
	r := openRoom(t, 3, "-board", ":"+strconv.Itoa(harness.FreePorts(t, 1)))
	address := boardAddress.FindStringSubmatch(r.Stdout.String())[1]
	public := regexp.MustCompile(`change nothing: (http://\S+)`).FindStringSubmatch(r.Stdout.String())
	p := open(t, browser, address)
	p.says("#class .states", "Nobody has joined yet.")
	guest := open(t, browser, strings.Replace(public[1], "http://:", "http://127.0.0.1:", 1))
	ann, bob, eve := r.sit(t, "ann"), r.sit(t, "bob"), r.sit(t, "eve")
	p.says("#class .states", "3 here")
	for _, run := range [][2]string{{r.endpoints(1)[0], "03-get"}, {ann.own, "02-put"}, {bob.own, "04-delete"}} {
		expect(t, harness.Run(t, run[0], nil, run[1]), 0)
	}
	for _, who := range []*tab{p, guest} {
		who.shows("ann", "here,02-put,1")
		who.shows("bob", "here,04-delete,0")
		who.shows("eve", "here,,0")
	}

	// Who is opened: only their keys, in the table and the timeline; and back.
	for _, who := range []*tab{p, guest} {
		who.click(`#roster [data-learner="ann"] .open`)
		who.until("the keys are ann's", `document.querySelectorAll("#keys tbody tr").length === 1`)
		who.until("the timeline is ann's", `document.querySelectorAll("#timeline .lanes text").length === 1`)
		if got := who.prefixes(); got != "ann:" {
			t.Errorf("of ann are shown %s", got)
		}
		if got := who.text("#opened-name"); got != "ann" {
			t.Errorf("%q is open", got)
		}
	}
	guest.click("#close")
	guest.until("all keys are back", `document.querySelectorAll("#keys tbody tr").length > 3`)
	if got := guest.prefixes(); strings.Contains(got, ".") {
		t.Errorf("of all are shown %s", got)
	}
	guest.until("none is open", `document.getElementById("opened").hidden && !document.querySelector("#roster .opened")`)

	// A handle asks once. Whoever does not want it has done nothing.
	if got := p.asked(`[data-post="/class/reset/ann"]`); got != "Delete all keys of ann?" {
		t.Errorf("it asks %q", got)
	}
	p.press("r") // Nothing is answered.
	p.answer("no")
	p.press("r") // No lesson is in sight, so none runs.
	if got := eval[string](p, learner("ann")); got != "here,02-put,1" {
		t.Errorf("after a no, ann is %s", got)
	}
	p.asked(`[data-post="/class/reset/ann"]`)
	p.press(kb.Escape)
	p.until("the question is gone", `!document.getElementById("ask").open`)
	if got := eval[string](p, learner("ann")); got != "here,02-put,1" {
		t.Errorf("after an Escape, ann is %s", got)
	}
	p.asked(`[data-post="/class/reset/ann"]`)
	p.answer("yes")
	p.shows("ann", "here,02-put,0")
	p.says("#keys .empty", "There is no key that begins so.")
	p.says("#notice", "reset ann: done")

	// Before the reset there was the key, and nobody else's is shown.
	p.press(kb.ArrowLeft)
	p.shows("ann", "here,02-put,1")
	p.until("the keys of then", `document.querySelectorAll("#keys tbody tr").length === 1`)
	if eval[bool](p, `[...document.querySelectorAll("#opened [data-action]")].some((handle) => handle.checkVisibility())`) {
		t.Error("there are handles in the past")
	}
	p.press(kb.Home)
	p.shows("ann", "here,02-put,0")
	// The timeline leads to revisions that are not side by side.
	expect(t, harness.Run(t, bob.own, nil, "02-put"), 0)
	p.shows("bob", "here,02-put,1")
	last := eval[string](p, `document.querySelector("#timeline .rev:last-child").dataset.rev`)
	p.click("#timeline .rev:last-child .hit")
	p.until("it is where the timeline was pressed", fmt.Sprintf(`document.getElementById("keys").dataset.revision === %q`, last))
	p.says("#change", "Revision "+last)
	p.press(kb.ArrowLeft)
	p.until("the keys of before", `document.querySelectorAll("#keys tbody tr").length === 1`)
	p.press(kb.Home)
	p.says("#keys .empty", "There is no key that begins so.")
	p.click("#close")
	p.until("all keys are back", `document.querySelectorAll("#keys tbody tr").length > 3`)

	// The lock of the class: who has it, who waits.
	p.says("#class .free", "The lock of the class is free.")
	holder := harness.Start(t, ann.common, nil, "08-txn-lock", "-name", "ann", "-work", "2m")
	p.says("#class .holder", "ann has the lock of the class")
	p.says("#class .waiting", "Nobody waits.")
	p.says("#lock .holder", "ann has it")
	next := harness.Start(t, bob.common, nil, "08-txn-lock", "-name", "bob", "-work", "2m", "-wait")
	for _, who := range []*tab{p, guest} {
		who.says("#class .waiting", "At most 1 wait.")
		who.shows("ann", "here,08-txn-lock,0")
	}
	harness.Interrupt(t, holder)
	p.says("#class .holder", "bob has the lock of the class")
	p.says("#class .waiting", "Nobody waits.")
	p.says("#lock ol", "ann, token")
	if drawn := eval[int](p, `document.querySelectorAll("#timeline .bands .lock").length`); drawn == 0 {
		t.Error("no lock is drawn as one")
	}
	harness.Interrupt(t, next)
	p.says("#class .free", "The lock of the class is free.")
	for _, ended := range []*harness.Running{holder, next} {
		ended.Wait(t)
	}

	// Removed and freed.
	p.click(`#roster [data-learner="bob"] .open`)
	if got := p.asked(`[data-post="/class/remove/bob"]`); !strings.Contains(got, "Remove bob") {
		t.Errorf("it asks %q", got)
	}
	p.answer("yes")
	guest.shows("bob", "removed,08-txn-lock,0")
	expect(t, bob.Wait(t), 1)
	p.until("nothing can be done to bob", `[...document.querySelectorAll("#opened [data-action]")].every((button) => button.hidden)`)
	p.click(`#roster [data-learner="eve"] .open`)
	p.asked(`[data-post="/class/free/eve"]`)
	p.answer("yes")
	guest.until("eve is not in the roster", `!document.querySelector('#roster [data-learner="eve"]')`)
	eve.Wait(t)

	// The leader is killed for all, and another leads.
	p.until("somebody leads", crowned)
	leader := eval[string](p, crowned)
	if got := p.asked(`[data-post="/member/leader/kill"]`); !strings.Contains(got, leader) {
		t.Errorf("it asks %q, but %s leads", got, leader)
	}
	p.answer("yes")
	p.crownMoves(leader)

	// What the teacher runs on the board is the teacher's.
	p.click(`[data-left="lessons"]`)
	if ran := p.text("#terminal-1-command"); ran != "" {
		t.Errorf("out of sight, %q ran", ran)
	}
	p.pick("02-put")
	p.finish(1)
	p.click(`[data-left="class"]`)
	p.shows("teacher", ",02-put,5")

	// A guest looks, and has nothing to change anything with.
	if handles := eval[int](guest, `document.querySelectorAll("[data-post], [data-action], #ask").length`); handles != 0 {
		t.Errorf("guests have %d handles", handles)
	}
	p.quiet()
}

// openClass starts a class within this process, with its board in a tab of the teacher's
// and in one of a guest.
func openClass(t testing.TB, browser context.Context, args ...string) (p, guest *tab, root *clientv3.Client) {
	t.Helper()
	authority, err := class.OpenAuthority("")
	etcdtest.NoError(t, err)
	secure, err := authority.Secure()
	etcdtest.NoError(t, err)
	etcd := etcdtest.Etcd(t, cluster.Config{Secure: secure, Args: append(class.Limits[:len(class.Limits):len(class.Limits)], args...)})
	shared, err := class.Open(etcdtest.Soon(t), class.Config{Authority: authority, Etcd: etcd.Client(), Address: "127.0.0.1:0"})
	etcdtest.NoError(t, err)
	t.Cleanup(func() { etcdtest.NoError(t, shared.Close()) })
	root, err = clientv3.New(etcd.Client())
	etcdtest.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	b := startBoard(t, etcd, board.Config{Class: shared})
	return open(t, browser, "http://"+b.Address()+"/"), open(t, browser, "http://"+b.Public()+"/"), root
}

// boardFull fills the database of a class up to its quota, and makes room.
func boardFull(t *testing.T, browser context.Context) {
	p, guest, root := openClass(t, browser, "--quota-backend-bytes=2000000")
	const secret = "5ec2e7"
	named := put(t, root, ".names/mallory", secret)
	put(t, root, "mallory:/a", strings.Repeat("x", 100_000))
	p.says("#class .store", "of 2000 kB")
	// Whose key a name is, stays between the class and etcd.
	p.until("the name is there", `fetch("/moment?prefix=.names/").then((answer) => answer.text()).then((text) => text.includes(".names/mallory"))`)
	for _, who := range []*tab{p, guest} {
		got := eval[string](who, fmt.Sprintf(`Promise.all(["/", "/moment?prefix=.names/", "/change?rev=%[1]d", "/value?rev=%[1]d&key=%[2]s"]
			.map((path) => fetch(path).then((answer) => answer.text()))).then((texts) => texts.join())`,
			named, base64.RawURLEncoding.EncodeToString([]byte(".names/mallory"))))
		if strings.Contains(got, secret) || !strings.Contains(got, ".names/mallory") {
			t.Errorf("the board tells the hash of mallory's key, or nothing:\n%.500s", got)
		}
	}
	if p.text("#class .alarm") != "(no such element)" {
		t.Error("there is an alarm before it is full")
	}
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = root.Put(etcdtest.Soon(t), "mallory:/a", strings.Repeat("x", 100_000))
	}
	if err == nil || !strings.Contains(err.Error(), "database space exceeded") {
		t.Fatalf("the database is not full: %v", err)
	}
	for _, who := range []*tab{p, guest} {
		who.says("#class .alarm", "The database is full: nobody can write (NOSPACE).")
		who.says("#class .alarm", "mallory has written most")
	}
	p.asked(`[data-post="/class/room"]`)
	p.answer("yes")
	for _, who := range []*tab{p, guest} {
		who.until("there is no alarm", `!document.querySelector("#class .alarm")`)
	}
	put(t, root, "mallory:/a", "")
	p.quiet()
	guest.quiet()
}

// openHundred starts a class of 100 with 30,000 keys, in which somebody writes until stop
// is called.
func openHundred(t testing.TB, browser context.Context) (p *tab, stop func()) {
	t.Helper()
	p, _, root := openClass(t, browser)
	leased := func() clientv3.OpOption {
		t.Helper()
		lease, err := root.Grant(etcdtest.Soon(t), 600)
		etcdtest.NoError(t, err)
		return clientv3.WithLease(lease.ID)
	}
	put := func(ops ...clientv3.Op) {
		t.Helper()
		_, err := root.Txn(etcdtest.Soon(t)).Then(ops...).Commit()
		etcdtest.NoError(t, err)
	}
	names := []string{"ada", "alan", "barbara", "dennis", "donald", "edsger", "frances", "grace", "john", "ken"}
	lessons := []string{"put", "get", "delete", "lease", "watch", "op"}
	for i := range 100 {
		name := fmt.Sprintf("%s-%d", names[i/10], i%10+1)
		put(clientv3.OpPut(".names/"+name, "hash"))
		if i%9 != 4 {
			passed := strings.Join([]string{"01-connect", "02-put", "03-get", "04-delete", "05-lease"}[:i*7%6], " ")
			put(clientv3.OpPut(".here/"+name, passed, leased()))
		}
		for part := range 3 {
			var ops []clientv3.Op
			for n := range 100 {
				ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s:/cron/jobs/%s/job%d", name, lessons[(i+part)%6], n), "run daily"))
			}
			put(ops...)
		}
	}
	put(clientv3.OpPut("class:/cron/lock/job9", "grace-8", leased()))
	for n := range 12 {
		put(clientv3.OpPut(fmt.Sprintf("ken-10:/cron/jobs/put/job%d", n%3+1), strconv.Itoa(n)))
	}
	p.until("all are in the roster", `document.querySelectorAll("#roster [data-state]").length === 100`)
	p.says("#class .holder", "grace-8 has the lock of the class")
	p.until("of the leases, those of desks are left out", `document.querySelectorAll("#leases li").length === 1`)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for count := 0; ctx.Err() == nil; count++ {
			root.Put(ctx, "ken-1:/cron/jobs/watch/job1", strconv.Itoa(count))
		}
	}()
	return p, func() {
		cancel()
		<-ended
	}
}

// reopen opens the page anew, and returns when it is usable.
func (p *tab) reopen() {
	p.t.Helper()
	do(p, chromedp.Reload())
	p.until("the page is live", `document.body.dataset.live === "true" && document.querySelectorAll("#roster [data-state]").length === 100`)
}

// openLearner opens one, and returns when their keys are there.
func (p *tab) openLearner(name string) {
	p.t.Helper()
	p.click(fmt.Sprintf("#roster [data-learner=%q] .open", name))
	p.until("their keys are there", fmt.Sprintf(`document.querySelectorAll("#keys tbody tr").length === 200 &&
		[...document.querySelectorAll("#keys tbody th")].every((key) => key.textContent.startsWith("%s:"))`, name))
}

// BenchmarkBoardOf100 measures how soon the board of a class of 100 is usable, and a
// learner far down is open, while somebody writes. Below 2 s is the aim.
func BenchmarkBoardOf100(b *testing.B) {
	p, stop := openHundred(b, browse(b))
	defer stop()
	var pages, learners time.Duration
	for b.Loop() {
		from := time.Now()
		p.reopen()
		pages += time.Since(from)
		from = time.Now()
		p.openLearner("ken-10")
		learners += time.Since(from)
	}
	b.ReportMetric(pages.Seconds()/float64(b.N), "s/page")
	b.ReportMetric(learners.Seconds()/float64(b.N), "s/learner")
}

// boardOf100 looks at the board of a class of 100, and at a learner who is far down.
func boardOf100(t *testing.T, browser context.Context) {
	p, stop := openHundred(t, browser)
	defer stop()
	p.reopen()
	p.openLearner("ken-10")
	if marked := eval[int](p, `document.querySelectorAll("#keys .changed").length`); marked != 0 {
		t.Errorf("%d keys are marked as new", marked)
	}
	p.until("their last changes are drawn", `document.querySelectorAll("#timeline .rev").length === 15`)
	stop()
	for _, scheme := range []string{"light", "dark"} {
		screenshot(t, p, "class", 1280, 720, scheme)
		contrast(t, p, scheme)
		for _, size := range [][2]int64{{1280, 720}, {1920, 1080}} {
			p.size(size[0], size[1])
			if cutOff := eval[bool](p, `document.getElementById("roster").scrollWidth > document.getElementById("roster").clientWidth ||
				document.documentElement.scrollHeight > innerHeight`); cutOff {
				t.Errorf("at %v something does not fit", size)
			}
		}
	}
	if count := named(t, p); count["button"] < 110 {
		t.Errorf("too little was looked at: %v", count)
	}
	p.quiet()
}
