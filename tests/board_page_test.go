//go:build unix

package tests

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/board"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

var screenshots = flag.Bool("screenshots", false, "write screenshots of the board to docs/screenshots")

// TestBoard looks at the board in a browser while lessons run.
func TestBoard(t *testing.T) {
	etcdtest.NeedsLong(t, "it needs a browser for minutes")
	t.Parallel()
	browser := browse(t)
	// Boards of one clone share the built lessons. They find them built.
	for _, name := range harness.Lessons {
		_, err := course.Build(t.Context(), harness.Root, name, t.Output())
		etcdtest.NoError(t, err)
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, context.Context)
	}{
		{"three members", boardMembers},
		{"lessons", boardLessons},
		{"lock", boardLock},
		{"leases", boardLeases},
		{"lost and found", boardLost},
		{"reset", boardReset},
		{"pictures and files", boardFiles},
		{"hostile", boardHostile},
		{"public", boardPublic},
		{"secured", boardSecured},
		{"for everybody", boardForEverybody},
		{"exercises", boardExercises},
		{"class", boardClass},
		{"class that is full", boardFull},
		{"class of 100", boardOf100},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "class of 100" {
				etcdtest.NeedsNightly(t, "a hundred learners with their keys")
			}
			t.Parallel()
			c.test(t, browser)
		})
	}
}

// startBoard starts a board of an etcd, within this process.
func startBoard(t testing.TB, etcd *cluster.Cluster, config board.Config) *board.Board {
	t.Helper()
	client := etcd.Client()
	config.Etcd, config.Cluster = &client, etcd
	config.Root = cmp.Or(config.Root, harness.Root)
	config.Env = harness.Env("ETCDCTL_ENDPOINTS=" + strings.Join(etcd.Endpoints(), ","))
	config.Address, config.Public = "127.0.0.1:0", "127.0.0.1:0"
	b, err := board.Start(context.Background(), config)
	etcdtest.NoError(t, err)
	t.Cleanup(func() { etcdtest.NoError(t, b.Close()) })
	return b
}

// openBoard starts an etcd with so many members, and its board in a tab.
func openBoard(t *testing.T, browser context.Context, members int) (*tab, *clientv3.Client, *cluster.Cluster, *board.Board) {
	t.Helper()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: members})
	b := startBoard(t, etcd, board.Config{})
	return open(t, browser, "http://"+b.Address()+"/"), etcdtest.Connect(t, etcd.Endpoints()...), etcd, b
}

var boardAddress = regexp.MustCompile(`The board is at (http://\S+)`)

// showEtcd starts the real program with the board of an etcd alone, until the test ends or
// Ctrl-C. It returns where the board is.
func showEtcd(t *testing.T, endpoint, where string, env ...string) (*harness.Running, string) {
	t.Helper()
	p := harness.Start(t, endpoint, env, "classroom", "-board", where)
	p.Await(t, "Ctrl-C stops it.")
	return p, boardAddress.FindStringSubmatch(p.Stdout.String())[1]
}

// pick shows a lesson on the page and sets its flags, given as name and value.
// The value of a box is what it is to be: true or false.
func (p *tab) pick(name string, flags ...string) {
	p.t.Helper()
	if eval[string](p, `document.querySelector(".lesson").dataset.lesson`) != name {
		p.click("#pick-" + name)
	}
	p.until(name+" is shown", fmt.Sprintf(`document.querySelector(".lesson").dataset.lesson === %q`, name))
	for i := 0; i < len(flags); i += 2 {
		box := "#flag-" + flags[i]
		if value := flags[i+1]; value == "true" || value == "false" {
			if eval[bool](p, fmt.Sprintf(`document.querySelector(%q).checked`, box)) != (value == "true") {
				p.click(box)
			}
			continue
		}
		p.click(box)
		eval[bool](p, fmt.Sprintf(`document.querySelector(%q).select() ?? true`, box))
		p.press(flags[i+1])
	}
}

// press the Run button of a terminal, and return when its run has begun.
func (p *tab) run(slot int) {
	p.t.Helper()
	// A lesson prints something before it ends, and no two lines have the same ID.
	first := fmt.Sprintf(`document.querySelector("#terminal-%d-output .line")?.id ?? ""`, slot)
	before := eval[string](p, first)
	p.click(fmt.Sprintf(`#terminal-%d .run`, slot))
	p.until("the lesson prints", fmt.Sprintf(`![%q, ""].includes(%s)`, before, first))
}

// finish runs the lesson that is picked until it has ended well.
func (p *tab) finish(slot int) {
	p.t.Helper()
	p.run(slot)
	p.ended(slot, "ended, status 0, ")
}

func (p *tab) ended(slot int, words string) {
	p.t.Helper()
	p.until("the run has ended", fmt.Sprintf(`document.querySelector("#terminal-%d-state .ended")`, slot))
	if state := p.text(fmt.Sprintf("#terminal-%d-state", slot)); !strings.Contains(state, words) {
		p.fatalf("terminal %d is %q, want %q", slot, state, words)
	}
}

// shownRow is a row of the table of keys.
type shownRow struct {
	Key, Value           string
	Version, Create, Mod int64
}

func (p *tab) rows() []shownRow {
	p.t.Helper()
	return eval[[]shownRow](p, `[...document.querySelectorAll("#keys tbody tr")].map(({ cells }) => ({
		Key: cells[0].textContent, Value: cells[1].querySelector("bdi").textContent,
		Version: +cells[2].textContent, Create: +cells[3].textContent, Mod: +cells[4].textContent }))`)
}

// stored returns the rows that etcd has at a revision, or now when that is 0.
func stored(t *testing.T, client *clientv3.Client, revision int64) []shownRow {
	t.Helper()
	get, err := client.Get(etcdtest.Soon(t), "\x00", clientv3.WithFromKey(), clientv3.WithRev(revision))
	etcdtest.NoError(t, err)
	rows := []shownRow{}
	for _, kv := range get.Kvs {
		rows = append(rows, shownRow{string(kv.Key), string(kv.Value), kv.Version, kv.CreateRevision, kv.ModRevision})
	}
	return rows
}

func revisionOf(t *testing.T, client *clientv3.Client) int64 {
	t.Helper()
	get, err := client.Get(etcdtest.Soon(t), "any")
	etcdtest.NoError(t, err)
	return get.Header.Revision
}

func (p *tab) reaches(revision int64) {
	p.t.Helper()
	p.until(fmt.Sprintf("the page is at revision %d", revision), fmt.Sprintf(
		`document.getElementById("revision").textContent === "%d" &&
		document.querySelector("#timeline svg").dataset.last === "%[1]d"`, revision))
}

// drawnChange is a change as the timeline shows it, and as etcd tells it.
type drawnChange struct {
	Revision  int64
	Key, Kind string
}

// drawn returns what the timeline shows, with the key of each lane.
func (p *tab) drawn() []drawnChange {
	p.t.Helper()
	return eval[[]drawnChange](p, `(() => {
		const lanes = {};
		for (const label of document.querySelectorAll("#timeline .lanes text")) {
			lanes[label.getAttribute("y")] = label.querySelector("title").textContent;
		}
		return [...document.querySelectorAll("#timeline .rev")].flatMap((rev) =>
			[...rev.querySelectorAll("[data-kind]")].map((mark) => ({
				Revision: +rev.dataset.rev, Kind: mark.dataset.kind,
				Key: lanes[mark.getAttribute("transform").match(/ (\d+)\)/)[1]] })));
	})()`)
}

// happened returns what etcd has seen since its first revision.
func happened(t *testing.T, client *clientv3.Client, until int64) []drawnChange {
	t.Helper()
	var changes []drawnChange
	ctx, stop := context.WithCancel(etcdtest.Soon(t))
	defer stop()
	for answer := range client.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(1)) {
		etcdtest.NoError(t, answer.Err())
		for _, event := range answer.Events {
			kind := "deleted"
			if event.IsCreate() {
				kind = "created"
			} else if event.IsModify() {
				kind = "put"
			}
			changes = append(changes, drawnChange{event.Kv.ModRevision, string(event.Kv.Key), kind})
		}
		if answer.Header.Revision >= until && len(changes) > 0 && changes[len(changes)-1].Revision == until {
			return changes
		}
	}
	t.Fatalf("etcd does not reach revision %d", until)
	return nil
}

// agrees fails the test unless the table and the timeline are what etcd has. It returns what
// happened.
func (p *tab) agrees(t *testing.T, client *clientv3.Client) []drawnChange {
	t.Helper()
	last := revisionOf(t, client)
	p.reaches(last)
	inOrder := func(a, b drawnChange) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), strings.Compare(a.Key, b.Key))
	}
	got, want := p.drawn(), happened(t, client, last)
	slices.SortFunc(got, inOrder)
	slices.SortFunc(want, inOrder)
	if !slices.Equal(got, want) {
		p.fatalf("drawn is\n%v\nwhat happened is\n%v", got, want)
	}
	p.lists(t, client, 0)
	return want
}

// lists returns when the table is what etcd has at a revision, or now when that is 0.
func (p *tab) lists(t *testing.T, client *clientv3.Client, revision int64) {
	t.Helper()
	want := stored(t, client, revision)
	for end := time.Now().Add(pageLimit); !slices.Equal(p.rows(), want); time.Sleep(30 * time.Millisecond) {
		if time.Now().After(end) {
			p.fatalf("of revision %d the table is\n%v\nwant\n%v", revision, p.rows(), want)
		}
	}
}

// boardLessons runs lessons on the board: the timeline and the table show what etcd has,
// now and before; Stop leaves nothing.
func boardLessons(t *testing.T, browser context.Context) {
	p, client, _, _ := openBoard(t, browser, 1)
	for _, name := range []string{"02-put", "04-delete", "07-op"} {
		p.pick(name)
		p.finish(1)
	}
	last := revisionOf(t, client)
	want := p.agrees(t, client)
	shapes := eval[int](p, `new Set([...document.querySelectorAll("#timeline [data-kind]")]
		.map((mark) => mark.innerHTML)).size`)
	if shapes != 3 {
		t.Errorf("created, put and deleted have %d shapes", shapes)
	}
	// The last lesson's transaction, before its two changes of one key.
	column := fmt.Sprintf(`#timeline .rev[data-rev="%d"]`, last-2)
	if count := eval[int](p, fmt.Sprintf(`document.querySelectorAll('%s [data-kind], %[1]s .txn').length`, column)); count != 3 {
		t.Errorf("the transaction of two changes is not two shapes and a line: %d", count)
	}

	// Before and after, by the mouse.
	p.point(column + " .hit")
	p.says("#change", "one transaction of 2 changes")
	at := slices.IndexFunc(want, func(c drawnChange) bool { return c.Kind == "put" })
	p.point(fmt.Sprintf(`#timeline .rev[data-rev="%d"] .hit`, want[at].Revision))
	p.says("#change", fmt.Sprintf("Revision %d", want[at].Revision))
	for part, revision := range map[string]int64{"old": want[at].Revision - 1, "new": want[at].Revision} {
		get, err := client.Get(etcdtest.Soon(t), want[at].Key, clientv3.WithRev(revision))
		etcdtest.NoError(t, err)
		if shown := p.text("#change ." + part); shown != string(get.Kvs[0].Value) {
			t.Errorf("the %s value is %q, want %q", part, shown, get.Kvs[0].Value)
		}
	}

	// Back in time, and back to now.
	for revision := last - 1; revision >= 1; revision-- {
		p.press(kb.ArrowLeft)
		p.until("the past is shown", fmt.Sprintf(`document.getElementById("keys").dataset.revision === "%d" &&
			document.getElementById("past").textContent.includes("revision %[1]d.")`, revision))
		p.lists(t, client, revision)
		p.says("#change", fmt.Sprintf("Revision %d", revision))
	}
	p.press(kb.Home)
	p.until("it is now", `document.getElementById("past").hidden`)
	p.lists(t, client, 0)
	p.travel(want[at].Revision, last)
	_, err := client.Compact(etcdtest.Soon(t), last-1)
	etcdtest.NoError(t, err)
	p.press(kb.ArrowLeft + kb.ArrowLeft)
	p.says("#keys", fmt.Sprintf("Revision %d was compacted", last-2))
	p.press(kb.Home)
	p.until("it is now again", `document.getElementById("past").hidden && document.querySelector("#keys tbody tr")`)
	p.quiet()

	// Stopped, a lesson cleans up.
	p.pick("05-lease", "ttl", "60")
	p.run(1)
	p.until("the lease is shown", `document.querySelector("#leases li.lease:not(.gone)")`)
	p.click("#terminal-1 .stop")
	p.ended(1, "stopped, status 1, ")
	harness.NoLeases(t, client)
	p.says("#leases li.gone", "revoked")
	p.says("#leases li.gone", "took along /cron/jobs/lease/job1")
}

// travel goes back in time from a revision by the keyboard alone, and by dragging.
func (p *tab) travel(revision, last int64) {
	p.t.Helper()
	column := func(revision int64) string {
		return fmt.Sprintf(`#timeline .rev[data-rev="%d"]`, revision)
	}
	shown := func(revision int64) string {
		return fmt.Sprintf(`document.getElementById("keys").dataset.revision === "%d"`, revision)
	}
	focused := func(revision int64) string {
		return fmt.Sprintf(`document.activeElement.dataset.rev === "%d" &&
			document.querySelectorAll('#timeline [tabindex="0"]').length === 1`, revision)
	}
	eval[bool](p, `document.getElementById("now").focus() ?? true`)
	p.press(kb.Tab)
	p.until("the Tab key finds the last revision", focused(last))
	p.says("#change", fmt.Sprintf("Revision %d", last))
	eval[bool](p, fmt.Sprintf(`document.querySelector('%s').focus() ?? true`, column(revision)))
	p.says("#change", fmt.Sprintf("Revision %d", revision))
	p.press(kb.Enter)
	p.until("what has the focus is shown", shown(revision))
	p.press(kb.ArrowLeft)
	p.until("the focus has gone back", shown(revision-1)+" && "+focused(revision-1))
	p.press(kb.Home)
	p.until("the focus is at the end", focused(last))

	do(p, chromedp.DragAndDrop(chromedp.CSS(column(last-1)+" .hit"), chromedp.CSS(column(revision)+" .hit")))
	p.until("the past is shown where it was dragged to", shown(revision))
	p.point(column(last) + " .hit")
	p.says("#change", fmt.Sprintf("Revision %d", last))
	p.until("nothing is dragged any more", shown(revision))
	p.press(kb.Escape)
	p.until("it is now", `document.getElementById("past").hidden`)
}

// boardLeases sees a bar fall and jump, and a lease take its key along.
func boardLeases(t *testing.T, browser context.Context) {
	p, client, _, _ := openBoard(t, browser, 1)
	lease, err := client.Grant(etcdtest.Soon(t), 60)
	etcdtest.NoError(t, err)
	mine := fmt.Sprintf(`document.querySelector('#leases li[data-id="%016x"]')`, lease.ID)
	full := mine + `?.querySelector(".fill").style.getPropertyValue("--left")`
	p.until("the bar stands", full+" > 0.5")
	p.until("the bar falls", full+" < 0.9")
	_, err = client.KeepAliveOnce(etcdtest.Soon(t), lease.ID)
	etcdtest.NoError(t, err)
	p.until("the bar jumps", full+" > 0.93 && "+mine+`.querySelector(".renewed").textContent === "↻ 1"`)
	width := eval[float64](p, `(() => {
		const fill = `+mine+`.querySelector(".fill");
		return fill.getBoundingClientRect().width / fill.parentElement.clientWidth;
	})()`)
	if width < 0.7 || width > 1 {
		t.Errorf("after the jump, %.2f of the bar is full", width)
	}

	// The lesson renews its first lease and lets it expire; it revokes the second.
	// Both take the key along. A lease that is gone stays in sight for some seconds.
	const gone = `[...document.querySelectorAll("#leases li.gone")].some((lease) =>
		/%s.*took along \/cron\/jobs\/lease\/job1/s.test(lease.textContent))`
	p.pick("05-lease", "ttl", "2")
	p.run(1)
	p.until("the lesson's bar jumps", `[...document.querySelectorAll("#leases li")].some((lease) =>
		lease.querySelector(".renewed") && lease.textContent.includes("/cron/jobs/lease/job1"))`)
	p.until("the first lease takes the key along", fmt.Sprintf(gone, "expired"))
	// It may have lived too shortly for the board to tell that it was revoked.
	p.until("the second lease takes the key along", fmt.Sprintf(gone, "(revoked|ended)"))
	p.ended(1, "ended, status 0")
	p.until("the table is empty", `document.querySelector("#keys .empty")`)
	p.until("the timeline shows both ends", `["[data-kind=expired]", ":is([data-kind=revoked], [data-kind=ended])"].every((end) =>
		document.querySelectorAll("#timeline " + end).length === 1)`)
	p.quiet()
}

// boardLock sees the lock change hands while its holder is paused, and the
// holder's late write refused.
func boardLock(t *testing.T, browser context.Context) {
	p, client, _, _ := openBoard(t, browser, 1)
	p.pick("08-txn-lock", "name", "alice", "ttl", "2", "work", "18s")
	p.run(1)
	p.says("#lock .holder", "alice has it")
	get, err := client.Get(etcdtest.Soon(t), "/cron/lock/job9")
	if err != nil || len(get.Kvs) != 1 {
		t.Fatalf("the lock: %v, %v", get, err)
	}
	token := get.Kvs[0].CreateRevision
	p.says("#lock .holder", fmt.Sprintf("token %d", token))
	// Bob cannot end before Alice's time is over: he waits for her lease first.
	p.pick("08-txn-lock", "name", "bob", "ttl", "2", "work", "17s", "wait", "true")
	p.run(2)
	p.says("#terminal-2-output", fmt.Sprintf("bob waits: alice has it, token %d", token))
	p.click("#terminal-1 .pause")
	p.says("#terminal-1-state", "paused")
	p.says("#lock .holder", "bob has it")
	p.says("#lock ol", fmt.Sprintf("alice, token %d: lost, its lease expired", token))
	p.ended(2, "ended, status 0")
	p.says("#lock .free", "Nobody holds a lock.")
	p.click("#terminal-1 .resume")
	p.ended(1, "ended, status 1")
	p.says("#lock .refusal", fmt.Sprintf("Stale write refused: alice, token %d; the lock was free", token))
	p.says("#lock ol", "bob, token")
	if get, err := client.Get(etcdtest.Soon(t), "/cron/jobs/job9"); err != nil || !strings.HasPrefix(string(get.Kvs[0].Value), "done by bob") {
		t.Errorf("the result: %v, %v", get, err)
	}
	p.quiet()
}

// crowned is an expression for the name of the member that leads.
const crowned = `document.querySelector("#members .leads")?.dataset.member ?? ""`

// crownMoves returns when a member is stopped that led, and another one leads.
func (p *tab) crownMoves(from string) {
	p.t.Helper()
	p.says(fmt.Sprintf("[data-member=%q].down .role", from), "stopped")
	p.until("the crown moves", fmt.Sprintf(`![%q, ""].includes(%s)`, from, crowned))
}

// boardMembers has three members: it takes pictures, and then kills the leader.
func boardMembers(t *testing.T, browser context.Context) {
	p, _, etcd, _ := openBoard(t, browser, 3)
	for _, name := range append(harness.Lessons[:4:4], "07-op") {
		p.pick(name)
		p.finish(1)
	}
	p.pick("08-txn-lock", "name", "alice", "work", "1m")
	p.run(1)
	p.pick("08-txn-lock", "name", "bob", "wait", "true")
	p.run(2)
	p.says("#lock .holder", "alice has it")
	p.until("the lock's lease is shown", `document.querySelector("#leases li:not(.gone) .keys bdi")`)
	do(p, chromedp.MouseEvent("mouseMoved", 1, 1))
	if part := eval[float64](p, `document.querySelector(".lesson-text").clientHeight / document.getElementById("lessons").clientHeight`); part < 0.5 {
		t.Errorf("the lesson's text has %.2f of the height of its side, want half", part)
	}
	// The sizes of projectors.
	for _, size := range [][2]int64{{1280, 720}, {1920, 1080}} {
		for _, scheme := range []string{"light", "dark"} {
			screenshot(t, p, "board", size[0], size[1], scheme)
		}
	}
	p.prefer()
	p.size(1280, 720)
	for slot := 2; slot > 0; slot-- {
		p.click(fmt.Sprintf("#terminal-%d .stop", slot))
		p.ended(slot, "stopped")
	}

	// The crown moves, and the lessons carry on.
	p.until("somebody leads", crowned)
	leader := harness.Leader(t, etcd).Name
	if got := eval[string](p, crowned); got != leader {
		t.Errorf("%s has the crown, but %s leads", got, leader)
	}
	p.click(fmt.Sprintf(`[data-post="/member/%s/kill"]`, leader))
	p.crownMoves(leader)
	if got, want := eval[string](p, crowned), harness.Leader(t, etcd).Name; got != want {
		t.Errorf("%s has the crown, but %s leads", got, want)
	}
	p.pick("02-put")
	p.finish(1)
	p.click(fmt.Sprintf(`[data-post="/member/%s/restart"]`, leader))
	p.says(fmt.Sprintf("[data-member=%q]:not(.down) .role", leader), "follower")
	p.until("one has the crown", `document.querySelectorAll("#members .leads").length === 1`)
	p.quiet()
}

// screenshot shows the page in a size and a scheme, and keeps a picture of it when the flag
// -screenshots is given.
func screenshot(t *testing.T, p *tab, page string, width, height int64, scheme string) {
	t.Helper()
	p.size(width, height)
	p.prefer("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
	if *screenshots {
		name := fmt.Sprintf("%s-%dx%d-%s.png", page, width, height, scheme)
		save(t, filepath.Join(harness.Root, "docs", "screenshots", name), string(do(p, chromedp.CaptureScreenshot())))
	}
}

// boardFiles follows the text of a lesson to a picture and to a second file.
func boardFiles(t *testing.T, browser context.Context) {
	copied := harness.CopyOfTree(t)
	text, err := os.ReadFile(filepath.Join(copied, "README.md"))
	etcdtest.NoError(t, err)
	save(t, filepath.Join(copied, "README.md"), strings.Replace(string(text), "\n## 02-put\n",
		"\n## 02-put\n\n![Drawn for a test](docs/pictures/for-a-test.svg)\n\nRead [more](02-put/more.go).\n", 1))
	save(t, filepath.Join(copied, "02-put", "more.go"), "package main\n\n// There is more.\n")
	save(t, filepath.Join(copied, "docs", "pictures", "for-a-test.svg"), `<svg xmlns="http://www.w3.org/2000/svg" width="2000" height="20">
		<style>rect { fill: rgb(1, 2, 3) }</style><rect width="2000" height="20"/>
		<script>document.documentElement.setAttribute("class", "hostile")</script></svg>`)
	b := startBoard(t, etcdtest.Etcd(t, cluster.Config{}), board.Config{Root: copied})
	p := open(t, browser, "http://"+b.Address()+"/")
	p.pick("02-put")
	p.until("the picture is shown, and fits", `(() => {
		const picture = document.querySelector(".lesson-text img[alt='Drawn for a test']");
		return picture.naturalWidth === 2000 && picture.width > 100 && picture.getBoundingClientRect().right <
			document.querySelector(".lesson-text").getBoundingClientRect().right;
	})()`)
	p.click(".lesson-text a[href='#code-02-put-more.go']")
	p.until("the link leads to the second file", `(() => {
		const pane = document.querySelector(".lesson-code").getBoundingClientRect();
		const place = document.getElementById("code-02-put-more.go").getBoundingClientRect();
		return place.height > 0 && place.top >= pane.top && place.top < pane.bottom;
	})()`)
	p.says("[id='code-02-put-more.go'] h2", "02-put/more.go")
	p.quiet()

	// Alone, the picture looks as it does in the page, and its script does not run.
	do(p, chromedp.Navigate("http://"+b.Address()+"/docs/pictures/for-a-test.svg"))
	p.until("the picture has its style", `getComputedStyle(document.querySelector("rect")).fill === "rgb(1, 2, 3)"`)
	if eval[bool](p, `document.documentElement.classList.contains("hostile")`) {
		t.Error("a script of the picture ran")
	}
}

func save(t *testing.T, name, content string) {
	t.Helper()
	etcdtest.NoError(t, os.WriteFile(name, []byte(content), 0o644))
}

// boardHostile stores what would be markup or script if the page took it so.
func boardHostile(t *testing.T, browser context.Context) {
	p, client, _, b := openBoard(t, browser, 1)
	const image = `<img src=x onerror="window.hostile=1;alert(1)">`
	texts := []string{
		`<script>window.hostile=1</script>`,
		`"><script src="//example.com/x.js"></script>`,
		image,
		`' autofocus onfocus=window.hostile=1 x='`,
		`<svg onload=window.hostile=1><animate onbegin=window.hostile=1></svg>`,
		`</title></text></svg></td></table></template><iframe srcdoc="<script>top.hostile=1</script>"></iframe>`,
		`<a href="javascript:window.hostile=1">x</a><form action=//example.com><button>b</button></form>`,
		`<style>*{display:none}</style><base href="//example.com/"><meta http-equiv=refresh content="0;//example.com">`,
		`{{.}}{"json":"` + `</pre><b onclick=window.hostile=1>` + `"}`,
		"\xff\xfe\x00<b>\x80", "\u202eright to left\u2066\u200b", strings.Repeat("<b>long ", 2000),
	}
	lease, err := client.Grant(etcdtest.Soon(t), 300)
	etcdtest.NoError(t, err)
	for i, text := range texts {
		put(t, client, text, text, clientv3.WithLease(lease.ID))
		put(t, client, text, texts[(i+1)%len(texts)], clientv3.WithLease(lease.ID))
	}
	put(t, client, `{"a":"`+image+`"}`, `{"a":"`+image+`"}`)
	put(t, client, "/cron/lock/"+image, image, clientv3.WithLease(lease.ID))
	put(t, client, "/cron/jobs/"+image, "done by "+image+", token 1")
	put(t, client, "/cron/jobs/long", strings.Repeat(image, 20_000))
	p.pick("08-txn-lock", "name", image, "work", "10ms")
	p.run(1)
	p.ended(1, "ended, status 0")
	p.says("#terminal-1-output", image+" has the lock")
	p.reaches(revisionOf(t, client))
	p.says("#lock .refusal", image[:30])
	p.says("#lock .holder", image[:30])

	harmless := func() {
		t.Helper()
		found := eval[[]string](p, `[
			...[...document.querySelectorAll("script")].filter((s) => !s.src.startsWith(location.origin + "/assets/")),
			...document.querySelectorAll("img:not(.lesson-text img[src^='/docs/pictures/']), iframe, object, embed, base, style, animate, b, main meta, main link, [srcdoc], [style*=display]"),
			...[...document.querySelectorAll("form")].filter((f) => !f.matches(".lesson-flags")),
			...[...document.querySelectorAll("a")].filter((a) => !/^https?:$/.test(a.protocol)),
			...[...document.querySelectorAll("*")].filter((e) => [...e.attributes].some((a) => /^on|autofocus/.test(a.name))),
		].map((e) => e.outerHTML.slice(0, 300))`)
		for _, element := range found {
			t.Errorf("an element of theirs: %s", element)
		}
		if !eval[bool](p, `window.hostile === undefined`) {
			t.Error("a script of theirs ran")
		}
		if eval[bool](p, `/[\u202e\u2066\u200b]/.test(document.body.innerHTML)`) {
			t.Error("a character that turns the text is on the page")
		}
		p.narrow(1280)
	}
	p.until("all keys have a row", fmt.Sprintf(`document.querySelectorAll("#keys tbody tr").length === %d`, len(stored(t, client, 0))))
	harmless()
	// Everything that can be opened, pointed at and gone back to.
	eval[bool](p, `document.querySelectorAll("#keys details").forEach((d) => { d.open = true; }) ?? true`)
	for revision := range revisionOf(t, client) {
		if eval[bool](p, fmt.Sprintf(`document.querySelector('#timeline .rev[data-rev="%d"]') !== null`, revision)) {
			p.point(fmt.Sprintf(`#timeline .rev[data-rev="%d"] .hit`, revision))
			p.says("#change", fmt.Sprintf("Revision %d", revision))
			harmless()
		}
	}
	last := revisionOf(t, client)
	p.press(kb.ArrowLeft)
	p.until("the past is shown", fmt.Sprintf(`document.getElementById("keys").dataset.revision === "%d"`, last-1))
	harmless()
	do(p, chromedp.Navigate("http://"+b.Public()+"/"))
	p.until("it is live", `document.body.dataset.live === "true" && document.querySelector("#keys tbody tr")`)
	harmless()
	// All of a long value is plain text.
	do(p, chromedp.Navigate(eval[string](p, `document.querySelector("#keys a[href^='/value']").href`)))
	if got := eval[string](p, `document.contentType`); got != "text/plain" {
		t.Errorf("a value is shown as %s", got)
	}
	p.quiet()
}

// boardLost loses etcd, and then the board, and gets both back.
func boardLost(t *testing.T, browser context.Context) {
	etcd := etcdtest.Etcd(t, cluster.Config{})
	endpoint := etcd.Endpoints()[0]
	client := etcdtest.Connect(t, endpoint)
	where := "127.0.0.1:" + strconv.Itoa(harness.FreePorts(t, 1))
	classroom, address := showEtcd(t, endpoint, where)
	if address != "http://"+where+"/" {
		t.Fatalf("the board is at %s", address)
	}
	p := open(t, browser, address)
	shows := func(value string) {
		t.Helper()
		revision := put(t, client, "/life", value)
		p.until(value+" is shown", fmt.Sprintf(
			`document.querySelector("#keys td.value bdi")?.textContent === %q`, value))
		p.reaches(revision)
	}
	shows("at first")
	if eval[bool](p, `document.querySelector("[data-post]") !== null`) {
		t.Error("there are handles for an etcd that is not the classroom's")
	}
	member := etcd.Members[0]
	etcdtest.NoError(t, member.Kill())
	p.says("#trouble", "etcd does not answer")
	p.says("#members .down .role", "not reachable")
	etcdtest.NoError(t, member.Restart(etcdtest.Soon(t)))
	p.until("the trouble is over", `document.getElementById("trouble").textContent === ""`)
	p.says("#members .leads .role", "leader")
	shows("etcd is back")

	harness.Interrupt(t, classroom)
	classroom.Wait(t)
	p.until("the board is lost", `!document.getElementById("lost").hidden`)
	showEtcd(t, endpoint, where)
	p.until("the board is back", `document.getElementById("lost").hidden && document.body.dataset.live === "true"`)
	shows("the board is back")
}

// boardReset empties the store while the past is shown.
func boardReset(t *testing.T, browser context.Context) {
	p, client, etcd, _ := openBoard(t, browser, 1)
	lease, err := client.Grant(etcdtest.Soon(t), 600)
	etcdtest.NoError(t, err)
	for i := range 5 {
		put(t, client, "/antique", strconv.Itoa(i), clientv3.WithLease(lease.ID))
	}
	p.reaches(6)
	p.until("the lease is shown", `document.querySelector("#leases li.lease")`)
	p.press(kb.ArrowLeft)
	p.says("#change", "Revision 5")
	p.says("#past", "revision 5.")
	etcdtest.NoError(t, etcd.Reset(etcdtest.Soon(t)))
	p.until("it is now", `document.getElementById("past").hidden`)
	p.says("#change", "Point at a change")
	p.reaches(1)
	p.says("#keys", "There is no key.")
	p.says("#leases", "There is no lease.")
	if shown := p.text("#etcd"); strings.Contains(shown, "antique") {
		t.Errorf("the old store is shown:\n%s", shown)
	}
	p.pick("02-put")
	p.finish(1)
	p.reaches(4)
	p.agrees(t, client)
	p.quiet()
}

// boardSecured shows an etcd that wants TLS and a user, first to one who may read
// everything, then to one who may not.
func boardSecured(t *testing.T, browser context.Context) {
	plain := harness.Locked(t)
	secure, ca := harness.TLS(t, plain)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{plain},
		Username: "root", Password: "se:cret", Logger: zap.NewNop()})
	etcdtest.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	see := func(user string) *tab {
		_, address := showEtcd(t, "https://"+secure, "127.0.0.1:0", "ETCDCTL_CACERT="+ca, "ETCDCTL_USER="+user)
		return open(t, browser, address)
	}
	p := see("root:se:cret")
	p.pick("02-put")
	p.finish(1)
	p.reaches(revisionOf(t, client))
	p.says("#keys", "/cron/jobs/put/job1")
	p.says("#members .role", "leader")
	if trouble := p.text("#trouble"); trouble != "" {
		t.Errorf("it says %q", trouble)
	}

	_, err = client.UserAdd(etcdtest.Soon(t), "ann", "secret")
	etcdtest.NoError(t, err)
	see("ann:secret").says("#trouble", "etcd refuses to show what it has: etcdserver: permission denied")
}

// boardPublic looks from the address at which nobody can change anything.
func boardPublic(t *testing.T, browser context.Context) {
	p, _, _, b := openBoard(t, browser, 1)
	guest := open(t, browser, "http://"+b.Public()+"/")
	p.pick("02-put")
	p.finish(1)
	guest.says("#keys", "/cron/jobs/put/job1")
	guest.says("#terminal-1-output", "The first put creates the key:")
	guest.click("#pick-05-lease")
	guest.says("#lesson .lesson-text", "05-lease")
	guest.says("#members .role", "leader")
	if handles := eval[int](guest, `document.querySelectorAll("[data-post], [data-do], input:not(#slider, #prefix), form").length`); handles != 0 {
		t.Errorf("guests have %d handles", handles)
	}
	if eval[int](p, `document.querySelectorAll("[data-post]").length`) == 0 {
		t.Error("the teacher has no handles")
	}
	before := guest.text("#terminal-1-output")
	guest.press("r") // The key that runs the lesson.
	if after := guest.text("#terminal-1-output"); after != before {
		t.Errorf("a guest ran a lesson: %s", after)
	}
}

// boardForEverybody checks the keyboard, what a screen reader is told, contrast,
// motion, and a phone.
func boardForEverybody(t *testing.T, browser context.Context) {
	p, client, _, _ := openBoard(t, browser, 1)
	p.prefer("prefers-reduced-motion", "no-preference")

	shown := func(name string) {
		t.Helper()
		p.until(name+" is shown", fmt.Sprintf(`document.querySelector(".lesson").dataset.lesson === %q &&
			document.querySelector(".lesson-names [aria-current]").dataset.lesson === %[1]q`, name))
	}
	for range 4 {
		p.press("]")
	}
	shown("05-lease")
	p.press("[")
	shown("04-delete")
	p.press("]")
	shown("05-lease")
	p.press("r")
	p.says("#terminal-1-output", "s left")
	p.until("the lease is shown", `document.querySelector("#leases li.lease:not(.gone)")`)
	p.press("s")
	p.ended(1, "stopped, status 1")
	p.press("v")
	p.until("the code is shown", `document.querySelector(".lesson-code").checkVisibility()`)

	// Something of everything, so that all of it is measured. The first keys are
	// marked as well.
	p.until("there is no key", `document.querySelector("#keys .empty")`)
	for _, kv := range [][2]string{{"/cron/lock/a", "alice"}, {"/a", `{"b":[1]}`}, {"/cron/jobs/a", "done by bob, token 1"}} {
		put(t, client, kv[0], kv[1])
	}
	p.until("a changed row moves", `document.getAnimations().some((a) => a.animationName === "changed")`)
	p.says("#lock .refusal", "went through")
	if count := named(t, p); count["button"] < 15 || count["textbox"] == 0 || count["region"] < 5 {
		t.Errorf("too little was looked at: %v", count)
	}
	for _, scheme := range []string{"light", "dark"} {
		p.prefer("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
		for _, view := range []string{"code", "text"} {
			p.click(fmt.Sprintf(`[data-show=%q]:is(button)`, view))
			contrast(t, p, scheme+", "+view)
		}
		p.press(kb.ArrowLeft)
		p.until("the past is shown", `document.querySelector("#keys[data-revision] tr.here")`)
		contrast(t, p, scheme+", the past")
		p.press(kb.Home)
		p.until("it is now", `document.getElementById("past").hidden`)
	}

	put(t, client, "/a", "moves nothing")
	p.until("the row is marked", `[...document.querySelectorAll("tr.changed")].some((row) => row.textContent.includes("moves nothing"))`)
	if moving := eval[int](p, `document.getAnimations().length`); moving != 0 {
		t.Errorf("%d animations for one who asks for none", moving)
	}

	p.size(390, 844) // A phone.
	p.narrow(390)
	beside := eval[[]string](p, `(() => {
		const parts = [document.getElementById("lessons"), ...document.querySelectorAll(".panel")];
		return parts.filter((part, i) => {
			const box = part.getBoundingClientRect();
			return box.width < 300 || i > 0 && box.top < parts[i - 1].getBoundingClientRect().bottom;
		}).map((part) => part.id);
	})()`)
	if len(beside) != 0 {
		t.Errorf("on a phone these are not one below the other: %v", beside)
	}
	p.quiet()
}

// named fails the test when a screen reader has no name for something. It returns how
// many of each role it has looked at.
func named(t *testing.T, p *tab) map[string]int {
	t.Helper()
	tree := protocol(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	count := map[string]int{}
	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		role := strings.Trim(string(node.Role.Value), `"`)
		if !slices.Contains([]string{"button", "textbox", "checkbox", "link", "region", "meter", "group", "navigation", "form", "image", "article"}, role) {
			continue
		}
		count[role]++
		if role != "group" && (node.Name == nil || strings.Trim(string(node.Name.Value), `" `) == "") {
			t.Errorf("a %s has no name (node %d)", role, node.BackendDOMNodeID)
		}
	}
	return count
}

// contrast fails the test when some text does not stand out from what is behind.
func contrast(t *testing.T, p *tab, where string) {
	t.Helper()
	faint := eval[[]string](p, `(() => {
		const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
		const seen = new Map();
		const rgba = (color) => {
			if (!seen.has(color)) {
				canvas.clearRect(0, 0, 1, 1);
				canvas.fillStyle = color;
				canvas.fillRect(0, 0, 1, 1);
				const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
				seen.set(color, [r, g, b, a / 255]);
			}
			return seen.get(color);
		};
		const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
		const behind = (element) => {
			const layers = [];
			for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
			return layers.reduceRight((below, top) => over(top, below), [255, 255, 255, 1]);
		};
		const light = (color) => {
			const [r, g, b] = color.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
			return 0.2126 * r + 0.7152 * g + 0.0722 * b;
		};
		const found = new Set(["measured"]);
		const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (walk.nextNode()) {
			const element = walk.currentNode.parentElement;
			if (!walk.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
			const style = getComputedStyle(element);
			const back = behind(element);
			const front = over(rgba(element.closest("svg") ? style.fill : style.color), back);
			const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
			const ratio = (high + 0.05) / (low + 0.05);
			if (ratio < 4.5) found.add(ratio.toFixed(2) + " " + element.tagName + "." + element.className + " " +
				walk.currentNode.data.trim().slice(0, 30) + " " + style.color + " on " + back);
		}
		return [...found];
	})()`)
	for _, text := range faint[1:] {
		t.Errorf("%s: contrast %s", where, text)
	}
}
