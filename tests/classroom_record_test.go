//go:build unix

package tests

import (
	"html"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestRecordWithoutRights records, and looks at the board, as a user who may read some
// keys alone. What is then to be done is said, and helps.
func TestRecordWithoutRights(t *testing.T) {
	t.Parallel()
	endpoint := harness.Locked(t)
	etcdctl := func(args ...string) {
		t.Helper()
		if got := harness.Run(t, endpoint, []string{"ETCDCTL_USER=root:se:cret"}, "etcdctl", args...); got.Status != 0 {
			t.Fatalf("etcdctl %v: %s", args, got.Stderr)
		}
	}
	etcdctl("user", "add", "ann:x")
	etcdctl("role", "add", "ann")
	etcdctl("role", "grant-permission", "ann", "readwrite", "/ann/", "--prefix")
	etcdctl("user", "grant-role", "ann", "ann")
	ann := []string{"ETCDCTL_USER=ann:x"}
	file := filepath.Join(t.TempDir(), "run.jsonl")
	const todo = `role grant-permission ROLE read "" --prefix`

	got := harness.Run(t, endpoint, ann, "classroom", "record", file)
	if got.Status != 1 || !strings.Contains(got.Stderr, todo) || strings.Count(got.Stderr, "\n") != 1 {
		t.Errorf("record ended with %d:\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	board := harness.Start(t, endpoint, ann, "classroom", "-board", "127.0.0.1:0")
	board.Await(t, "Ctrl-C stops it.")
	address, _, _ := strings.Cut(strings.TrimPrefix(board.Stdout.String(), "The board is at "), "\n")
	etcdtest.Eventually(t, "the board says which right is missing", func() bool {
		answer, err := http.Get(address)
		etcdtest.NoError(t, err)
		defer answer.Body.Close()
		page, err := io.ReadAll(answer.Body)
		etcdtest.NoError(t, err)
		return strings.Contains(html.UnescapeString(string(page)), todo)
	})

	etcdctl("role", "grant-permission", "ann", "read", "", "--prefix")
	recording := harness.Start(t, endpoint, ann, "classroom", "record", file)
	recording.Await(t, "Recording from revision 1 on.")
	harness.Interrupt(t, recording)
	if got := recording.Wait(t); got.Status != 0 {
		t.Errorf("with the right, record ended with %d:\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
}

// TestRecordAndDraw records a run of lesson 08, and draws it.
func TestRecordAndDraw(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	endpoint := etcd.Endpoints()[0]
	dir := t.TempDir()
	saved, picture := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "run.svg")

	recording := harness.Start(t, endpoint, nil, "classroom", "record", saved)
	recording.Await(t, "Recording from revision 1 on. Ctrl-C ends it.\n")
	put(t, etcdtest.Connect(t, endpoint), "/before", "the reset")
	// Only one who has heard of a change can tell that it is another store.
	etcdtest.Eventually(t, "the recorder was told", func() bool {
		told, err := harness.Machine.Metric(etcdtest.Soon(t), endpoint, "etcd_debugging_mvcc_events_total ", "")
		return err == nil && told > 0
	})
	etcdtest.NoError(t, etcd.Reset(etcdtest.Soon(t)))
	recording.Await(t, "what was recorded before is forgotten.\nRecording from revision 1 on.")
	for _, name := range []string{"ann", "ben"} {
		expect(t, harness.Run(t, endpoint, nil, "08-txn-lock", "-name", name, "-work", "1ms"), 0)
	}
	harness.Interrupt(t, recording)
	// Each of them locks, writes, and unlocks.
	expect(t, recording.Wait(t), 0, "Saved: revisions 1 to 7.\n")

	got := harness.Run(t, "", nil, "classroom", "draw", saved)
	expect(t, got, 0, "ann has the lock, token 2", "done by ann, token 2", "ben has the lock, token 5", "done by ben, token 5",
		"/cron/lock/job9", "/cron/jobs/job9", "leases")
	if marks := strings.Count(got.Stdout, "data-kind="); marks != 6 {
		t.Errorf("six changes have %d marks", marks)
	}

	// Into a file, only the second holder, from the other end of the command.
	got = harness.Run(t, "", nil, "classroom", "draw", "-o", picture, "-from", "5", "-prefix", "/cron/lock/", saved)
	expect(t, got, 0, "Drawn: revisions 5 to 7.\n")
	file, err := os.ReadFile(picture)
	etcdtest.NoError(t, err)
	if drawn := string(file); !strings.Contains(drawn, "ben has the lock, token 5") ||
		strings.Contains(drawn, "ann has the lock") || strings.Contains(drawn, "/cron/jobs/job9") {
		t.Errorf("only the lock of ben is asked for, and this is drawn:\n%s", drawn)
	}

	replayed := harness.Start(t, "", nil, "classroom", "-board", "127.0.0.1:0", "replay", saved)
	replayed.Await(t, "Ctrl-C stops it.\n")
	answer, err := http.Get(boardAddress.FindStringSubmatch(replayed.Stdout.String())[1])
	etcdtest.NoError(t, err)
	page, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || !strings.Contains(string(page), "<bdi>ben</bdi>, token 5: ") {
		t.Errorf("the replay does not tell of the last holder (%v):\n%s", err, page)
	}
	harness.Interrupt(t, replayed)
	expect(t, replayed.Wait(t), 0, "The board has stopped.\n")

	broken := filepath.Join(dir, "broken.jsonl")
	etcdtest.NoError(t, os.WriteFile(broken, []byte("{}\n"), 0o600))
	for _, c := range []struct {
		endpoint string
		args     []string
		words    string
		status   int
	}{
		{"", []string{"draw"}, "usage: classroom draw FILE", 1},
		{"", []string{"draw", saved, "more"}, "usage: classroom draw FILE", 1},
		{"", []string{"draw", saved, "-x"}, "classroom draw FILE [flags]", 2},
		{"", []string{"draw", filepath.Join(dir, "none")}, "draw: open ", 1},
		{"", []string{"draw", broken}, "load a record, line 1", 1},
		{"", []string{"replay"}, "usage: classroom [-board address] replay FILE", 1},
		{"", []string{"replay", broken}, "load a record, line 1", 1},
		{"", []string{"-board", "off", "replay", saved}, "nothing to do", 1},
		{"", []string{"draw", saved, "-to", "8"}, "has not come so far", 1},
		{endpoint, []string{"record"}, "usage: classroom record FILE", 1},
		{endpoint, []string{"record", filepath.Join(dir, "none", "x")}, "record: ", 1},
		{"127.0.0.1:1", []string{"record", filepath.Join(dir, "x")}, "nothing listens there", 1},
		{"", []string{"-port", "2380", "record", "x"}, "unknown flag: --port", 2},
	} {
		expect(t, harness.Run(t, c.endpoint, nil, "classroom", c.args...), c.status, c.words)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 3 {
		t.Errorf("left are %q (%v), want three files", left, err)
	}
}
