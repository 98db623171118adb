//go:build unix

package tests

import (
	"encoding/xml"
	"errors"
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

// TestRecordAndDraw records a run of lesson 08, and draws it.
func TestRecordAndDraw(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	endpoint := etcd.Endpoints()[0]
	dir := t.TempDir()
	saved, picture := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "run.svg")

	recording := harness.Start(t, endpoint, nil, "classroom", "record", saved)
	recording.Await(t, "Recording from revision 1 on. Ctrl-C ends it.\n")
	if _, err := etcdtest.Connect(t, endpoint).Put(harness.Soon(t), "/before", "the reset"); err != nil {
		t.Fatal(err)
	}
	// Only one who has heard of a change can tell that it is another store.
	harness.Eventually(t, "the recorder was told", func() bool {
		told, err := harness.Machine.Metric(harness.Soon(t), endpoint, "etcd_debugging_mvcc_events_total ", "")
		return err == nil && told > 0
	})
	harness.NoError(t, etcd.Reset(harness.Soon(t)))
	recording.Await(t, "what was recorded before is forgotten.\nRecording from revision 1 on.")
	for _, name := range []string{"ann", "ben"} {
		if got := harness.Run(t, endpoint, nil, "08-txn-lock", "-name", name, "-work", "1ms"); got.Status != 0 {
			t.Fatalf("lesson 08 ended with %d:\n%s", got.Status, got.Stderr)
		}
	}
	harness.Interrupt(t, recording)
	// Each of them locks, writes, and unlocks.
	if got := recording.Wait(t); got.Status != 0 || !strings.HasSuffix(got.Stdout, "Saved: revisions 1 to 7.\n") {
		t.Fatalf("record ended with %d:\n%s%s", got.Status, got.Stdout, got.Stderr)
	}

	got := harness.Run(t, "", nil, "classroom", "draw", saved)
	if got.Status != 0 || got.Stderr != "" {
		t.Fatalf("draw ended with %d:\n%s", got.Status, got.Stderr)
	}
	texts := svgTexts(t, got.Stdout)
	for _, want := range []string{"ann, token 2", "done by ann, token 2", "ben, token 5", "done by ben, token 5",
		"2", "7", "/cron/lock/job9", "/cron/jobs/job9", "leases"} {
		if !texts[want] {
			t.Errorf("the drawing does not say %q, but %v", want, texts)
		}
	}
	if marks := strings.Count(got.Stdout, "data-kind="); marks != 6 {
		t.Errorf("six changes have %d marks", marks)
	}

	// Into a file, only the second holder, from the other end of the command.
	got = harness.Run(t, "", nil, "classroom", "draw", "-o", picture, "-from", "5", "-prefix", "/cron/lock/", saved)
	if got.Status != 0 || got.Stdout != "Drawn: revisions 5 to 7.\n" {
		t.Fatalf("draw -o ended with %d:\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	file, err := os.ReadFile(picture)
	harness.NoError(t, err)
	if texts := svgTexts(t, string(file)); !texts["ben, token 5"] || texts["ann, token 2"] || texts["/cron/jobs/job9"] {
		t.Errorf("only the lock of ben is asked for, and the drawing says %v", texts)
	}

	replayed := harness.Start(t, "", nil, "classroom", "-board", "127.0.0.1:0", "replay", saved)
	replayed.Await(t, "Ctrl-C stops it.\n")
	address, _, _ := strings.Cut(strings.TrimPrefix(replayed.Stdout.String(), "The board is at "), "\n")
	answer, err := http.Get(address)
	harness.NoError(t, err)
	page, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || !strings.Contains(string(page), "<bdi>ben</bdi>, token 5: ") {
		t.Errorf("the replay does not tell of the last holder (%v):\n%s", err, page)
	}
	harness.Interrupt(t, replayed)
	if got := replayed.Wait(t); got.Status != 0 || !strings.HasSuffix(got.Stdout, "The board has stopped.\n") {
		t.Errorf("replay ended with %d:\n%s%s", got.Status, got.Stdout, got.Stderr)
	}

	broken := filepath.Join(dir, "broken.jsonl")
	harness.NoError(t, os.WriteFile(broken, []byte("{}\n"), 0o600))
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
		if got := harness.Run(t, c.endpoint, nil, "classroom", c.args...); got.Status != c.status || !strings.Contains(got.Stderr, c.words) {
			t.Errorf("%q ended with %d, want %d and %q:\n%s", c.args, got.Status, c.status, c.words, got.Stderr)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 3 {
		t.Errorf("left are %q (%v), want three files", left, err)
	}
}

// svgTexts returns what the <text> elements of an SVG say.
func svgTexts(t *testing.T, svg string) map[string]bool {
	t.Helper()
	texts := map[string]bool{}
	decoder := xml.NewDecoder(strings.NewReader(svg))
	text, inside, title := "", false, false
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			inside = inside || token.Name.Local == "text"
			title = token.Name.Local == "title"
		case xml.CharData:
			if inside && !title {
				text += string(token)
			}
		case xml.EndElement:
			title = false
			if token.Name.Local == "text" {
				texts[text] = true
				text, inside = "", false
			}
		}
	}
}
