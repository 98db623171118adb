package drawing

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/history"
)

var update = flag.Bool("update", false, "rewrite the drawings in testdata")

// planted is an etcd that does what a test tells it, at times of its own.
type planted struct {
	t      *testing.T
	record *history.Record
	now    time.Time
	keys   map[string]history.KeyValue
	leases int64 // is added to the number of each lease
}

// plant returns an etcd that is at a revision and has no keys.
func plant(t *testing.T, revision int64) *planted {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &planted{t: t, now: now, keys: map[string]history.KeyValue{},
		record: history.New(history.Limits{}, revision, nil, now)}
}

// change is key=value, key=value@lease, or key alone for a deletion.
func (p *planted) change(changes ...string) int64 {
	p.t.Helper()
	p.now = p.now.Add(time.Duration(1+len(p.keys)) * time.Second)
	revision := p.record.Last() + 1
	var puts []history.Put
	for _, change := range changes {
		key, value, isPut := strings.Cut(change, "=")
		kv := p.keys[key]
		if !isPut {
			delete(p.keys, key)
			puts = append(puts, history.Put{Key: key, Mod: revision})
			continue
		}
		value, lease, _ := strings.Cut(value, "@")
		if kv.Version == 0 {
			kv.Create = revision
		}
		kv.Key, kv.Value, kv.Mod, kv.Lease = key, value, revision, 0
		kv.Version++
		if lease != "" {
			number, err := strconv.ParseInt(lease, 10, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			kv.Lease = p.leases + number
		}
		p.keys[key] = kv
		puts = append(puts, kv)
	}
	if err := p.record.Append(puts, p.now); err != nil {
		p.t.Fatal(err)
	}
	return revision
}

func (p *planted) note(revision int64, text string) { p.record.Note(revision, text, p.now) }

// end ends a lease, with its keys.
func (p *planted) end(lease int64, how history.Ending) {
	p.t.Helper()
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(p.keys)) {
		if p.keys[key].Lease == p.leases+lease {
			keys = append(keys, key)
		}
	}
	p.change(keys...)
	p.now = p.now.Add(time.Second)
	p.record.Look(history.Look{Lease: p.leases + lease, Asked: p.now, Answered: p.now, Remaining: -1})
	if how != history.Ended {
		p.record.Settle(p.leases+lease, how)
	}
}

func draw(t *testing.T, record *history.Record, options Options) string {
	t.Helper()
	d, err := New(record, options)
	if err != nil {
		t.Fatal(err)
	}
	svg, err := d.SVG()
	if err != nil {
		t.Fatal(err)
	}
	return string(svg)
}

// runs are what is drawn in testdata.
var runs = map[string]struct {
	options Options
	run     func(p *planted)
}{
	"locks": {Options{Title: "Two holders of a lock"}, func(p *planted) {
		p.change("/cron/lock/job9=alice@1")
		p.change("/cron/jobs/job9=done by alice, token 2")
		p.end(1, history.Revoked)
		p.change("/cron/lock/job9=bob@2")
		p.change("/cron/jobs/job9=done by bob, token 5")
		p.end(2, history.Expired)
		p.change("/cron/lock/job9=carol@3")
		p.change("/cron/lock/job9=carol, still@3") // Her token stays.
	}},
	"keys": {Options{}, func(p *planted) {
		p.change("/b=1", "/a=1", "/c=1")
		p.change("/a=2")
		p.change("/b", "/c")
		p.change("/b=again")
		p.change("/a")
	}},
	"leases": {Options{Title: "Leases"}, func(p *planted) {
		p.change("/a=1@1", "/b=1@1")
		p.change("/c=1@2")
		p.change("/b=2")   // It leaves its lease.
		p.change("/d=1@3") //
		p.change("/d")     // Deleted: its lease lives on.
		p.end(1, history.Expired)
		p.end(2, history.Ended)
		p.change("/d=1@3")
	}},
	"long": {Options{}, func(p *planted) {
		for i := range 60 {
			p.change(fmt.Sprintf("/jobs/%02d=value %d", i%7, i))
		}
	}},
	"many": {Options{Lanes: 6}, func(p *planted) {
		for i := range 30 {
			p.change(fmt.Sprintf("/jobs/%02d=value %d", i, i))
		}
	}},
	"nothing": {Options{}, func(*planted) {}},
	"notes": {Options{}, func(p *planted) {
		p.change("/visits=41")
		p.note(2, "Its write got lost on the way to etcd.")
		p.note(2, "Then the leader was killed, and it took a while until there was another one, which "+
			"has let the program wait.")
		p.change("/visits=42", "/visits/by/ann=visits 42, was 41")
		p.note(3, "ann was counted at revision 3.")
	}},
	"board": {Options{Interactive: true, From: 1, Mark: 7}, func(p *planted) {
		p.change("/cron/lock/job9=alice@1")
		p.change("/cron/jobs/job9=done by alice, token 2")
		p.change("/cron/jobs/job1=1", "/cron/jobs/job2=1")
		p.end(1, history.Revoked)
		p.change("/cron/lock/job9=bob@2")
		for i := range 20 {
			p.change(fmt.Sprintf("/cron/jobs/job2=%d", i))
		}
		p.end(2, history.Expired)
	}},
}

func TestGolden(t *testing.T) {
	for name, c := range runs {
		p := plant(t, 1)
		c.run(p)
		file := filepath.Join("testdata", name+".svg")
		got := draw(t, p.record, c.options)
		checkXML(t, name, got)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is not what is drawn; to rewrite it:\n"+
				"go test -count=1 ./classroom/drawing -run Golden -update", file)
		}
	}
}

// TestSameRun checks that a drawing tells nothing that differs when the same is done
// again.
func TestSameRun(t *testing.T) {
	for name, c := range runs {
		p, again := plant(t, 1), plant(t, 1)
		p.leases, again.leases = 1<<60, 7000
		again.now = again.now.Add(12345 * time.Second)
		c.run(p)
		c.run(again)
		if draw(t, p.record, c.options) != draw(t, again.record, c.options) {
			t.Errorf("%s: the same is drawn in two ways", name)
		}
	}
}

// checkXML returns the texts of a drawing. It refuses what is no XML, what is not
// made of the elements that a drawing has, and a text that does not end inside.
func checkXML(t *testing.T, name, drawing string) (texts []string) {
	t.Helper()
	elements := "svg title desc style clipPath rect g text tspan path line circle "
	decoder := xml.NewDecoder(strings.NewReader(drawing))
	wide, x, shift := 0.0, 0.0, 0.0
	var open []string
	var text strings.Builder
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, drawing)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if !strings.Contains(elements, token.Name.Local+" ") {
				t.Errorf("%s: it has an element %s", name, token.Name.Local)
			}
			open = append(open, token.Name.Local)
			for _, a := range token.Attr {
				var err error
				switch {
				case strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href":
					t.Errorf("%s: it has an attribute %s", name, a.Name.Local)
				case token.Name.Local == "svg" && a.Name.Local == "viewBox":
					var top float64
					_, err = fmt.Sscanf(a.Value, "0 %f %f", &top, &wide)
				case token.Name.Local == "g" && a.Name.Local == "transform":
					_, err = fmt.Sscanf(a.Value, "translate(%f", &shift)
				case token.Name.Local == "g":
					shift = 0
				case token.Name.Local == "text" && a.Name.Local == "x":
					x, err = strconv.ParseFloat(a.Value, 64)
				}
				if err != nil {
					t.Fatalf("%s: %s=%q: %v", name, a.Name.Local, a.Value, err)
				}
			}
		case xml.CharData:
			if inside := open[max(0, len(open)-1):]; len(inside) == 1 && (inside[0] == "text" || inside[0] == "tspan") {
				text.Write(token)
			}
		case xml.EndElement:
			open = open[:len(open)-1]
			if token.Name.Local != "text" {
				break
			}
			long := 0.0
			for _, r := range text.String() {
				long += float64(7 * width(r))
			}
			if text.String() != "revision" && shift+x+long > wide-8 {
				t.Errorf("%s: %q begins at %v and does not end within %v", name, &text, x, wide)
			}
			texts = append(texts, text.String())
			text.Reset()
			x = 0
		}
	}
}

func TestHostile(t *testing.T) {
	for _, hostile := range []string{
		strings.Repeat("long/", 3000),
		strings.Repeat("世界", 2000),
		"\x00\x01\xff\xfe\x1b[31m",
		`</text></svg><script>alert(1)</script><svg onload="alert(1)">`,
		`"'><image href="javascript:alert(1)"/>`,
		"]]>&amp;&#0;<!--",
		"\u202egnp.exe\u2066 \u200b\ufeff\u2028\ufffe\uffff\U000e0001",
		"مرحبا بالعالم שלום",
		"{{.Title}}",
		"}</style><style>*{display:none}",
	} {
		for _, options := range []Options{{Title: hostile}, {Interactive: true, LeaseName: func(int64) string { return hostile }}} {
			p := plant(t, 1)
			p.leases = 1 << 50
			changed := func(key, value string, lease int64) history.Put {
				return history.Put{Key: key, Value: value, Create: p.record.Last() + 1, Mod: p.record.Last() + 1, Version: 1, Lease: lease}
			}
			for _, put := range []history.Put{
				changed(hostile, hostile, 1), changed("/cron/lock/"+hostile, hostile, 2), changed("/a", hostile, 0),
			} {
				put.Create, put.Mod = p.record.Last()+1, p.record.Last()+1
				if err := p.record.Append([]history.Put{put}, p.now); err != nil {
					t.Fatal(err)
				}
			}
			drawing := draw(t, p.record, options)
			checkXML(t, fmt.Sprintf("%.20q", hostile), drawing)
			if len(drawing) > 30_000 {
				t.Errorf("%.20q: the drawing has %d bytes", hostile, len(drawing))
			}
		}
	}
}

// TestWindow checks that a window shows the same, whatever comes after it.
func TestWindow(t *testing.T) {
	p := plant(t, 1)
	for i := range 20 {
		p.change(fmt.Sprintf("/key%d=%d@1", i, i))
	}
	options := Options{From: 3, To: 21, Lanes: 7, Mark: 20, Interactive: true}
	before := draw(t, p.record, options)
	for i := range 60 {
		p.change(fmt.Sprintf("/later%d=%d", i, i))
	}
	p.end(1, history.Expired)
	if after := draw(t, p.record, options); after != before {
		t.Errorf("the past is drawn anew:\n%s\nnot\n%s", after, before)
	}
}

// TestPacked draws the keys of one of two who write by turns, and a lock.
func TestPacked(t *testing.T) {
	p := plant(t, 1)
	p.change("ann:/cron/lock/x=me@1")
	for i := range 40 {
		p.change(fmt.Sprintf("ann:/a=%d", i), fmt.Sprintf("ann:/b=%d", i))
		p.change(fmt.Sprintf("bob:/a=%d", i))
	}
	for _, c := range []struct {
		options     Options
		first, last int64
		columns     []string
		mark        string // the column that is marked
	}{
		{Options{Prefix: "ann:", Columns: 4}, 75, 82, []string{"75", "77", "79", "81"}, ""},
		{Options{Prefix: "ann:", Columns: 4, To: 6}, 2, 6, []string{"2", "3", "5"}, ""},
		{Options{Prefix: "ann:", Columns: 4, Mark: 78}, 75, 82, []string{"75", "77", "79", "81"}, "77"},
		{Options{Prefix: "bob:", Columns: 2, Mark: 82}, 80, 82, []string{"80", "82"}, "82"},
		{Options{Prefix: "eve:", Columns: 34}, 82, 82, nil, ""},
	} {
		c.options.Packed, c.options.Interactive, c.options.Owners = true, true, true
		d, err := New(p.record, c.options)
		if err != nil {
			t.Fatal(err)
		}
		var columns []string
		for _, column := range d.view.Columns {
			columns = append(columns, fmt.Sprint(column.Revision))
			if marked := column.X == d.view.MarkX; marked != (c.mark == columns[len(columns)-1]) {
				t.Errorf("%+v: column %d is marked: %t", c.options, column.Revision, marked)
			}
		}
		if d.First != c.first || d.Last != c.last || !slices.Equal(columns, c.columns) {
			t.Errorf("%+v: from %d to %d, %v", c.options, d.First, d.Last, columns)
		}
		for i, tick := range d.view.Ticks {
			if at := slices.Index(columns, fmt.Sprint(tick.Revision)); at < 0 || tick.X != d.view.Columns[at].Center {
				t.Errorf("%+v: the number %d stands elsewhere (%d)", c.options, tick.Revision, i)
			}
		}
		checkXML(t, "packed", draw(t, p.record, c.options))
	}
	all := Options{Prefix: "ann:", Packed: true, Columns: 100, To: 6}
	if text := draw(t, p.record, all); strings.Contains(text, "has the lock") {
		t.Error("without owners, it is a lock")
	}
	all.Owners = true
	if text := draw(t, p.record, all); !strings.Contains(text, "me has the lock, token 2") {
		t.Errorf("with owners, it is no lock:\n%s", text)
	}
}

func TestWindows(t *testing.T) {
	p := plant(t, 5)
	p.change("/a=1", "/cron/lock/x=me@1")
	p.change("/b=1", "/b/c=1")
	for _, c := range []struct {
		options      Options
		first, last  int64
		has, hasNone string
	}{
		{Options{}, 6, 7, "/a", ""},
		{Options{From: 1, To: 6}, 1, 6, `class="before"`, "/b"},
		{Options{To: 5}, 5, 5, "Nothing was written", "/a"},
		{Options{Prefix: "/b"}, 6, 7, "/b/c", "/a"},
		{Options{Prefix: "/none"}, 6, 7, "No key changed that is shown here", "/a"},
		{Options{Locks: "/other/"}, 6, 7, "/cron/lock/x", "has the lock"},
		{Options{}, 6, 7, "me has the lock, token 6", ""},
		{Options{Lanes: 2}, 6, 7, "other keys", ">/a<"},
		{Options{LeaseName: func(id int64) string { return fmt.Sprint("number ", id) }}, 6, 7, "number 1", "lease A"},
	} {
		d, err := New(p.record, c.options)
		if err != nil {
			t.Errorf("%+v: %v", c.options, err)
			continue
		}
		if d.First != c.first || d.Last != c.last {
			t.Errorf("%+v: it shows %d to %d, want %d to %d", c.options, d.First, d.Last, c.first, c.last)
		}
		if text := draw(t, p.record, c.options); !strings.Contains(text, c.has) || c.hasNone != "" && strings.Contains(text, c.hasNone) {
			t.Errorf("%+v: want %q and no %q in\n%s", c.options, c.has, c.hasNone, text)
		}
	}
	for _, options := range []Options{{To: 8}, {From: 8}, {From: 7, To: 6}, {From: -10_000, To: 7}} {
		if _, err := New(p.record, options); err == nil {
			t.Errorf("%+v is drawn", options)
		}
	}
	if _, err := New(p.record, Options{To: 8}); !errors.Is(err, history.ErrFuture) {
		t.Errorf("beyond the end: %v", err)
	}
}

// TestManyKeys checks that a revision of very many keys has a drawing of a size that
// can be looked at.
func TestManyKeys(t *testing.T) {
	p := plant(t, 1)
	var changes []string
	for i := range 5000 {
		changes = append(changes, fmt.Sprintf("/key%04d=1@%d", i, i))
	}
	p.change(changes...)
	for i := range changes {
		changes[i], _, _ = strings.Cut(changes[i], "=")
	}
	p.change(changes...)
	drawing := draw(t, p.record, Options{})
	checkXML(t, "many keys", drawing)
	if len(drawing) > 40_000 || !strings.Contains(drawing, "other keys") || !strings.Contains(drawing, "leases more") {
		t.Errorf("the drawing has %d bytes:\n%.2000s", len(drawing), drawing)
	}
}

// TestWaiters checks that who waits for a lock of etcd's package concurrency is not
// shown as its holder.
func TestWaiters(t *testing.T) {
	p := plant(t, 1)
	p.change(fmt.Sprintf("/cron/lock/job9/%x=@%d", 0xabc, 0xabc))
	if drawing := draw(t, p.record, Options{}); strings.Contains(drawing, "has the lock") {
		t.Error("a place in a queue is drawn as a lock that is held")
	}
}

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		raw        string
		cells      int
		start, end string
	}{
		{"abc", 3, "abc", "abc"},
		{"abcd", 3, "ab…", "…cd"},
		{"abcd", 1, "", ""},
		{"", 5, "", ""},
		{"世界世", 6, "世界世", "世界世"},
		{"世界世", 5, "世界…", "…界世"},
		{"世界世", 4, "世…", "…世"},
		{"a\x00\xff", 9, "a␀\\xff", "a␀\\xff"},
		{"\u202eab", 20, "⟨U+202E⟩ab", "⟨U+202E⟩ab"},
		{strings.Repeat("é", 5000), 4, "ééé…", "…ééé"},
	} {
		if got := start(c.raw, c.cells); got != c.start {
			t.Errorf("the start of %.20q in %d cells is %q, want %q", c.raw, c.cells, got, c.start)
		}
		if got := ending(c.raw, c.cells); got != c.end {
			t.Errorf("the end of %.20q in %d cells is %q, want %q", c.raw, c.cells, got, c.end)
		}
	}
}

func TestLetters(t *testing.T) {
	for n, want := range map[int]string{0: "A", 25: "Z", 26: "AA", 27: "AB", 52: "BA", 701: "ZZ", 702: "AAA"} {
		if got := letters(n); got != want {
			t.Errorf("number %d is %s, want %s", n, got, want)
		}
	}
}
