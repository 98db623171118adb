package board

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/process"
)

// What a run may show, and how often.
const (
	lineLimit  = 2000    // lines
	cutLimit   = 2000    // characters of a line
	textLimit  = 1 << 20 // bytes of all lines
	flushEvery = time.Second / 20
)

// terminal shows one run of a lesson. All viewers see the same terminals.
type terminal struct {
	number int
	page   sink

	mu      sync.Mutex
	runs    int // how many there were: a part of the lines' IDs
	lesson  string
	command string
	state   template.HTML
	busy    bool
	process *os.Process // nil while it is built
	stop    context.CancelFunc

	lines   []*outputLine
	size    int
	full    bool           // no more lines are taken
	sent    int            // lines that the page has
	changed []*outputLine  // of these, those that have grown since
	open    [2]*outputLine // the unfinished line of stdout and of stderr
	flush   *time.Timer    // nil when nothing waits to be sent
	note    func(string)   // gets every finished line; may be nil
}

// The streams of a program.
const (
	stdout = iota
	stderr
	remark // what the board itself says
)

type outputLine struct {
	id     string
	stream int
	raw    []byte
	cut    bool
	dirty  bool // it is among the changed
}

// content is the line as text: whatever a program prints, it is no markup and no
// command to a terminal.
func (l *outputLine) content(finished bool) string {
	raw := l.raw
	if !finished {
		raw = whole(raw)
	}
	shown := template.HTMLEscapeString(printable(string(raw)))
	if l.cut {
		shown += ` <span class="note">… cut after ` + strconv.Itoa(cutLimit) + ` characters</span>`
	}
	return shown
}

// textID names the part of the line that grows.
func (l *outputLine) textID() string { return l.id + "-text" }

func (l *outputLine) html(finished bool) string {
	kind, label := "out", ""
	switch l.stream {
	case stderr:
		kind, label = "err", `<span class="which">err</span> `
	case remark:
		kind = "note"
	}
	return fmt.Sprintf(`<div class="line %s" id="%s">%s<span id="%s">%s</span></div>`,
		kind, l.id, label, l.textID(), l.content(finished))
}

// whole returns raw without a character at its end of which only the first
// bytes are there.
func whole(raw []byte) []byte {
	for i := 1; i <= min(len(raw), utf8.UTFMax-1); i++ {
		if tail := raw[len(raw)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return raw[:len(raw)-i]
			}
			break
		}
	}
	return raw
}

// printable returns what may be shown of a line, which keeps its tabs.
func printable(line string) string {
	parts := strings.Split(line, "\t")
	for i, part := range parts {
		parts[i] = drawing.Visible(part)
	}
	return strings.Join(parts, "\t")
}

// begin takes the terminal for a run, or returns false when it has one.
func (t *terminal) begin(name, command string, stop context.CancelFunc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy {
		return false
	}
	t.runs++
	t.busy, t.process, t.stop = true, nil, stop
	t.lesson, t.command = name, command
	t.lines, t.size, t.full, t.sent, t.changed = nil, 0, false, 0, nil
	t.open = [2]*outputLine{}
	t.page.replace(t.id("command"), template.HTML(template.HTMLEscapeString(t.command)))
	t.page.replace(t.id("output"), "")
	t.say("busy", "building")
	return true
}

func (t *terminal) id(part string) string { return fmt.Sprintf("terminal-%d-%s", t.number, part) }

// say shows the state of the run. The caller holds the lock.
func (t *terminal) say(class, state string) {
	t.state = template.HTML(fmt.Sprintf(`<span class="%s">%s</span>`, class, template.HTMLEscapeString(state)))
	t.page.replace(t.id("state"), t.state)
}

// running notes that the process has started.
func (t *terminal) running(p *os.Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.process = p
	t.say("busy", "running")
}

// end shows how the run has ended, after everything that it has printed.
func (t *terminal) end(outcome string) {
	t.finishLine(stdout)
	t.finishLine(stderr)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.send()
	t.busy, t.process = false, nil
	t.say("ended", outcome)
}

var errNothingRuns = errors.New("nothing runs there")

// interrupt asks the run to end.
func (t *terminal) interrupt() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.busy {
		return errNothingRuns
	}
	t.say("busy", "stopping")
	t.stop()
	return nil
}

// pause stops the process as it stands, as Ctrl-Z does, or lets it go on.
func (t *terminal) pause(on bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.process == nil {
		return errNothingRuns
	}
	do, class, state := process.Resume, "busy", "running"
	if on {
		do, class, state = process.Pause, "busy paused", "paused"
	}
	if err := do(t.process); err != nil {
		return err
	}
	t.say(class, state)
	return nil
}

// printer is a stream of the run: what is written to it goes to the terminal.
type printer struct {
	*terminal
	stream int
}

func (p printer) Write(text []byte) (int, error) {
	for line := range bytes.Lines(text) {
		piece, end := bytes.CutSuffix(line, []byte("\n"))
		p.print(p.stream, piece)
		if end {
			p.finishLine(p.stream)
		}
	}
	return len(text), nil
}

// print adds to the open line of a stream, if there is room.
func (t *terminal) print(stream int, piece []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.line(stream)
	if l == nil || l.cut || len(piece) == 0 {
		return
	}
	l.raw = append(l.raw, piece...)
	t.size += len(piece)
	if len(l.raw) > cutLimit && utf8.RuneCount(l.raw) > cutLimit {
		end := 0
		for range cutLimit {
			_, size := utf8.DecodeRune(l.raw[end:])
			end += size
		}
		t.size -= len(l.raw) - end
		l.raw, l.cut = l.raw[:end:end], true
	}
	t.change(l)
}

// change notes that a line is to be sent again. The caller holds the lock.
func (t *terminal) change(l *outputLine) {
	if !l.dirty {
		l.dirty = true
		t.changed = append(t.changed, l)
	}
	t.sendSoon()
}

// line returns the open line of a stream, a new one if need be, or nil when no
// more are shown. The caller holds the lock.
func (t *terminal) line(stream int) *outputLine {
	if t.full {
		return nil
	}
	if l := t.open[stream]; l != nil {
		return l
	}
	if len(t.lines) >= lineLimit || t.size > textLimit {
		t.full = true
		t.lines = append(t.lines, t.newLine(remark, []byte("… the run goes on; no more of its output is shown")))
		t.sendSoon()
		return nil
	}
	t.open[stream] = t.newLine(stream, nil)
	t.lines = append(t.lines, t.open[stream])
	t.sendSoon()
	return t.open[stream]
}

func (t *terminal) newLine(stream int, raw []byte) *outputLine {
	id := fmt.Sprintf("terminal-%d-%d-%d", t.number, t.runs, len(t.lines)+1)
	return &outputLine{id: id, stream: stream, raw: raw}
}

// finishLine ends the open line of a stream, if there is one.
func (t *terminal) finishLine(stream int) {
	text, note := t.closeLine(stream)
	if note != nil {
		note(text)
	}
}

func (t *terminal) closeLine(stream int) (string, func(string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.open[stream]
	if l == nil {
		return "", nil
	}
	t.open[stream] = nil
	if n := len(l.raw); n > 0 && l.raw[n-1] == '\r' {
		l.raw = l.raw[:n-1]
	}
	t.change(l)
	if t.lesson != "08-txn-lock" {
		return "", nil
	}
	return printable(string(l.raw)), t.note
}

// sendSoon lets what has changed be sent with what else changes until then. The
// caller holds the lock.
func (t *terminal) sendSoon() {
	if t.flush == nil {
		t.flush = time.AfterFunc(flushEvery, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.send()
		})
	}
}

// send gives the page what it has not got yet. The caller holds the lock.
func (t *terminal) send() {
	if t.flush != nil {
		t.flush.Stop()
		t.flush = nil
	}
	fresh := t.lines[t.sent:]
	known := make(map[*outputLine]bool, len(fresh))
	for _, l := range fresh {
		known[l] = true
	}
	for _, l := range t.changed {
		l.dirty = false
		if !known[l] {
			t.page.replace(l.textID(), template.HTML(l.content(t.open[l.stream] != l)))
		}
	}
	t.changed = t.changed[:0]
	if len(fresh) > 0 {
		t.page.append(t.id("output"), t.htmlOf(fresh))
		t.sent = len(t.lines)
	}
}

func (t *terminal) htmlOf(lines []*outputLine) template.HTML {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.html(l.stream == remark || t.open[l.stream] != l))
	}
	return template.HTML(b.String())
}
