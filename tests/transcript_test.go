package tests

import (
	"bytes"
	"fmt"
	"go/format"
	"regexp"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

// A page shows transcripts in blocks that are marked as console:
//
//	$ a command, typed at the prompt
//	> the next line of the same command
//	what it prints
//	^C
//
// ^C and ^Z are typed while the command runs: they end it or stop it. A block
// that does not begin with a command shows what the command of the block before
// it, in the same terminal, prints meanwhile. A paragraph "**Terminal 3**" right
// above a block says where it is typed; without one it is Terminal 2. What
// differs from run to run stands in angle brackets: see placeholders and many.
// <!-- docker --> above a block says that it needs a Docker engine.
//
// A Go program, from its package clause on, is saved as main.go in the folder
// that its terminal is in, the same as if it were typed there.
//
// A page falls into sections, one for each heading of level 2, and these into
// sessions, each with terminals and an etcd of its own: see sessions.

// page is a Markdown text with transcripts.
type page struct {
	name     string // such as docs/PROOF.md
	source   []byte
	document ast.Node
	headings []heading
	blocks   []*block
	outside  []string // lines of sh blocks: commands that are not run here
	snippet  []string // go blocks
	inline   []string // code spans
}

// heading is a heading of a page.
type heading struct {
	node   *ast.Heading
	text   string
	anchor string // what a link to it has after #
}

// block is one transcript of a page.
type block struct {
	section    string // the heading of level 2 above it, or else that of the page
	heading    string // the heading above it
	terminal   string
	docker     bool
	program    bool // it is a program to save, and no transcript
	start, end int  // its place in the source, in bytes
	steps      []*step
}

// step is something that is done at a terminal, and what is printed after it.
type step struct {
	typed     []string // the lines as they stand in the block
	command   string   // what is sent to the shell; empty for a key and for none
	key       string   // what ^C or ^Z sends to the terminal
	line      int      // its line in the page, from 1
	want, got []string
	goesOn    bool // the command still runs when the next step begins
}

// placeholders are what may stand in angle brackets in a transcript, each with
// the text that it stands for.
var placeholders = map[string]string{
	"ID":     `[0-9a-f]{13,16}`,
	"folder": `\S+`,
	"time":   `[0-9.]+(µs|ms|s)`,
	"pid":    `[0-9]+`,
	"role":   `(leader|follower|no leader)`,
	"member": `etcd[1-3]`,
	"port":   `[0-9]+`,
	"log":    `\{"level":.*\}`,
}

// many are the lines that stand for any number of lines, each with what is common
// to these.
var many = map[string]*regexp.Regexp{
	"<what Compose reports>": regexp.MustCompile(``), // differs by version
	"<what go reports>":      regexp.MustCompile(`^go: `),
	"<what etcd logs>":       regexp.MustCompile(`^\{"level":`),
}

// keys are what can be typed while a command runs.
var keys = map[string]string{"^C": "\x03", "^Z": "\x1a"}

var (
	bracketed = regexp.MustCompile(`<([^<>]+)>`)
	countdown = regexp.MustCompile(`^[0-9]+( [0-9]+)*$`) // such as <2 1 0>
	label     = regexp.MustCompile(`^Terminal [1-9]$`)
	comment   = regexp.MustCompile(`(?s)^\s*<!--(.*?)-->\s*$`)
	silent    = regexp.MustCompile(`[^\pL\pM\p{Nd}\p{Pc} -]`) // what an anchor leaves out
	starter   = regexp.MustCompile(`^go run (\./classroom( -\S+( \S+)?)*$|go\.etcd\.io/etcd/server/v3($| ))`)
)

// parse reads a page. It returns an error for anything in it that would not be
// run and compared.
func parse(source []byte) (*page, error) {
	p := &page{source: source}
	p.document = goldmark.New().Parser().Parse(text.NewReader(source))
	section, above := "", ""
	err := ast.Walk(p.document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			above = plain(n, source)
			if n.Level <= 2 {
				section = above
			}
			p.headings = append(p.headings, heading{n, above, p.anchor(above)})
		case *ast.CodeSpan:
			p.inline = append(p.inline, plain(n, source))
		case *ast.CodeBlock:
			return ast.WalkStop, fmt.Errorf("line %d: an indented block is not run",
				p.lineAt(n.Lines().At(0).Start))
		case *ast.HTMLBlock:
			return ast.WalkContinue, p.checkComment(n)
		case *ast.FencedCodeBlock:
			return ast.WalkContinue, p.add(n, section, above)
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return nil, err
	}
	return p, p.connectSteps()
}

// add takes up one fenced block.
func (p *page) add(n *ast.FencedCodeBlock, section, heading string) error {
	if n.Lines().Len() == 0 {
		return fmt.Errorf("under %q: an empty block", heading)
	}
	first, last := n.Lines().At(0), n.Lines().At(n.Lines().Len()-1)
	line := p.lineAt(first.Start)
	content := string(p.source[first.Start:last.Stop])
	program := false
	switch language := string(n.Language(p.source)); language {
	case "sh":
		p.outside = append(p.outside, strings.Split(strings.TrimSpace(content), "\n")...)
		return nil
	case "go":
		if program = strings.HasPrefix(content, "package main\n"); !program {
			p.snippet = append(p.snippet, content)
			return nil
		}
		formatted, err := format.Source([]byte(content))
		if err != nil || string(formatted) != content {
			return fmt.Errorf("line %d: not as gofmt writes it (%v)", line, err)
		}
	case "console":
	default:
		return fmt.Errorf("line %d: a block marked %q is not run", line, language)
	}
	if n.Parent().Kind() != ast.KindDocument {
		return fmt.Errorf("line %d: a block inside a list or quotation", line)
	}
	b := &block{section: section, heading: heading, terminal: "Terminal 2", program: program,
		start: first.Start, end: last.Stop}
	above := n.PreviousSibling()
	if html, ok := above.(*ast.HTMLBlock); ok && comment.Match(raw(html, p.source)) {
		b.docker = true // The only comment that checkComment lets pass.
		above = above.PreviousSibling()
	}
	if paragraph, ok := above.(*ast.Paragraph); ok {
		if strong, ok := paragraph.FirstChild().(*ast.Emphasis); ok {
			if name := plain(strong, p.source); strings.HasPrefix(name, "Terminal") {
				if !label.MatchString(name) {
					return fmt.Errorf("line %d: unknown label %q", line, name)
				}
				b.terminal = name
			}
		}
	}
	p.blocks = append(p.blocks, b)
	if program {
		b.steps = []*step{{line: line, command: "cat >main.go <<'EOF'\n" + content + "EOF"}}
		return nil
	}
	for i, text := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
		if err := b.read(text, line+i); err != nil {
			return err
		}
	}
	return nil
}

// read takes up one line of a transcript.
func (b *block) read(text string, line int) error {
	if command, ok := strings.CutPrefix(text, "$ "); ok {
		b.steps = append(b.steps, &step{
			typed: []string{text}, command: command, line: line})
		return nil
	}
	if key, ok := keys[text]; ok {
		b.steps = append(b.steps, &step{typed: []string{text}, key: key, line: line})
		return nil
	}
	if len(b.steps) == 0 {
		b.steps = append(b.steps, &step{line: line})
	}
	last := b.steps[len(b.steps)-1]
	if strings.HasPrefix(text, ">") && last.command != "" && last.want == nil {
		last.typed = append(last.typed, text)
		last.command += "\n" + strings.TrimPrefix(text[1:], " ")
		return nil
	}
	for _, found := range bracketed.FindAllStringSubmatch(text, -1) {
		_, known := placeholders[found[1]]
		if !known && !countdown.MatchString(found[1]) && many[text] == nil {
			return fmt.Errorf("line %d: unknown placeholder %s", line, found[0])
		}
	}
	last.want = append(last.want, text)
	return nil
}

// session is a group of blocks that depends on no other.
type session []*block

// sessions returns the sessions of the page. One begins with a section, where
// Docker begins or ends, and where etcd is started.
func (p *page) sessions() []session {
	var sessions []session
	for i, b := range p.blocks {
		if i == 0 || b.section != p.blocks[i-1].section ||
			b.docker != p.blocks[i-1].docker || b.startsEtcd() {
			sessions = append(sessions, nil)
		}
		last := &sessions[len(sessions)-1]
		*last = append(*last, b)
	}
	return sessions
}

// name tells the session from the others of its page, or from most.
func (s session) name() string {
	name := s[0].section
	if s[0].heading != name {
		name += ", " + s[0].heading
	}
	if s[0].docker {
		name += ", with Docker"
	}
	return name
}

// needsEtcd reports whether the page takes it that an etcd runs in Terminal 1
// when the session begins.
func (s session) needsEtcd() bool { return !s[0].docker && !s[0].startsEtcd() }

func (b *block) startsEtcd() bool { return starter.MatchString(b.steps[0].command) }

// connectSteps finds out which commands still run at the end of their step.
func (p *page) connectSteps() error {
	for _, session := range p.sessions() {
		last := map[string]*step{}
		etcd := &step{} // The command that started it is not on the page.
		if session.needsEtcd() {
			last["Terminal 1"] = etcd
		}
		for _, b := range session {
			for _, s := range b.steps {
				if s.command != "" && last[b.terminal] == etcd {
					return fmt.Errorf("line %d: etcd runs in %s", s.line, b.terminal)
				}
				if s.command == "" {
					running := last[b.terminal]
					if running == nil {
						return fmt.Errorf("line %d: nothing runs in %s", s.line, b.terminal)
					}
					if slices.ContainsFunc(running.want, isMany) {
						return fmt.Errorf("line %d: nobody knows which line is the last before this", s.line)
					}
					running.goesOn = true
				}
				// An etcd that the page does not stop ends with its terminal.
				s.goesOn = starter.MatchString(s.command)
				last[b.terminal] = s
			}
		}
	}
	return nil
}

// check refuses blocks that expect nothing, and so could not fail. An etcd that is
// started has to answer, and a program is run by what follows. It also refuses to
// make folders that would stay: a session has a home folder of its own.
func (p *page) check() error {
	for _, session := range p.sessions() {
		for i, b := range session {
			for _, s := range b.steps {
				if strings.HasPrefix(s.command, "mkdir ") && !strings.HasPrefix(s.command, "mkdir ~/") {
					return fmt.Errorf("line %d: a folder that stays; make it in ~", s.line)
				}
			}
			silent := !slices.ContainsFunc(b.steps, func(s *step) bool { return len(s.want) > 0 })
			if silent && !b.program && !b.startsEtcd() && !printsLater(b, session[i+1:]) {
				return fmt.Errorf("line %d: a block that expects nothing", b.steps[0].line)
			}
		}
	}
	return nil
}

// printsLater reports whether the last command of b runs on, and a later block
// of its session shows what it prints.
func printsLater(b *block, rest session) bool {
	for _, later := range rest {
		if later.terminal == b.terminal {
			first := later.steps[0]
			return first.command == "" && first.key == ""
		}
	}
	return false
}

// anchor returns what GitHub makes of a heading for links to it.
func (p *page) anchor(text string) string {
	name := strings.ReplaceAll(strings.ToLower(silent.ReplaceAllString(text, "")), " ", "-")
	anchor := name
	for i := 1; slices.ContainsFunc(p.headings, func(h heading) bool { return h.anchor == anchor }); i++ {
		anchor = fmt.Sprint(name, "-", i)
	}
	return anchor
}

// checkComment refuses comments that mean nothing to this test.
func (p *page) checkComment(n *ast.HTMLBlock) error {
	found := comment.FindSubmatch(raw(n, p.source))
	if found == nil {
		return nil
	}
	line := p.lineAt(n.Lines().At(0).Start)
	if marker := strings.TrimSpace(string(found[1])); marker != "docker" {
		return fmt.Errorf("line %d: unknown marker %q", line, marker)
	}
	next, ok := n.NextSibling().(*ast.FencedCodeBlock)
	if !ok || string(next.Language(p.source)) != "console" {
		return fmt.Errorf("line %d: a marker that is not above a console block", line)
	}
	return nil
}

func (p *page) lineAt(offset int) int {
	return 1 + bytes.Count(p.source[:offset], []byte("\n"))
}

// forget drops what a session printed, so that its part of the page stays as it is.
func (s session) forget() {
	for _, b := range s {
		for _, step := range b.steps {
			step.got = nil
		}
	}
}

// rewritten returns the page with what was really printed, where a line differs
// from what the page shows.
func (p *page) rewritten() []byte {
	var out bytes.Buffer
	offset := 0
	for _, b := range p.blocks {
		if b.program {
			continue
		}
		out.Write(p.source[offset:b.start])
		for _, s := range b.steps {
			for _, line := range slices.Concat(s.typed, s.merged()) {
				out.WriteString(line + "\n")
			}
		}
		offset = b.end
	}
	out.Write(p.source[offset:])
	return out.Bytes()
}

// merged returns what a step printed, with the lines of the page that match.
func (s *step) merged() []string {
	if s.got == nil || compare(s.want, s.got) == nil {
		return s.want
	}
	var lines []string
	for _, got := range s.got {
		at := slices.IndexFunc(s.want, func(want string) bool { return match(want, got) })
		if at >= 0 {
			lines = append(lines, s.want[at])
		} else {
			lines = append(lines, hide(got))
		}
	}
	return lines
}

// varying are the texts that are known to differ from run to run.
var varying = []struct{ pattern, placeholder string }{
	{`\b[0-9a-f]{16}\b`, "<ID>"},
	{`\S*/classroom-[0-9]+`, "<folder>"},
	{`\b[0-9]+\.[0-9]+(ms|µs|s)\b`, "<time>"},
	{`process [0-9]+`, "process <pid>"},
	{`^\{"level":.*\}$`, "<log>"},
}

// hide puts placeholders into a line that was printed.
func hide(line string) string {
	for _, v := range varying {
		line = regexp.MustCompile(v.pattern).ReplaceAllString(line, v.placeholder)
	}
	return line
}

// compare returns an error that names the first difference between the lines
// that a transcript shows and those that were printed.
func compare(want, got []string) error {
	if i := slices.IndexFunc(want, isMany); i >= 0 {
		end := len(got) - (len(want) - i - 1)
		if end < i {
			return fmt.Errorf("missing: %d lines were printed", len(got))
		}
		if err := compare(want[:i], got[:i]); err != nil {
			return err
		}
		for _, line := range got[i:end] {
			if !many[want[i]].MatchString(line) {
				return fmt.Errorf("shown:   %q\nprinted: %q", want[i], line)
			}
		}
		return compare(want[i+1:], got[end:])
	}
	if i, count := countdownLines(want); count > 0 && len(got) > i && match(want[i], got[i]) {
		if err := compare(want[:i], got[:i]); err != nil {
			return err
		}
		end := i
		for end < len(got) && end < i+count+2 && match(want[i], got[end]) {
			end++
		}
		return compare(want[i+count:], got[end:])
	}
	for i, line := range got {
		if i >= len(want) {
			return fmt.Errorf("printed, but not shown: %q", line)
		}
		if !match(want[i], line) {
			return fmt.Errorf("shown:   %q\nprinted: %q", want[i], line)
		}
	}
	if len(got) < len(want) {
		return fmt.Errorf("shown, but not printed: %q", want[len(got)])
	}
	return nil
}

func isMany(line string) bool { return many[line] != nil }

// countdownLines returns where lines follow each other that differ by nothing but
// a number in angle brackets, and how many. When they are printed, a number may be
// skipped, or come twice: there may be fewer, or two more.
func countdownLines(want []string) (at, count int) {
	same := func(line string) string {
		return bracketed.ReplaceAllStringFunc(line, func(found string) string {
			if countdown.MatchString(found[1 : len(found)-1]) {
				return "<0>"
			}
			return found
		})
	}
	for i := 1; i < len(want); i++ {
		for i+count < len(want) && want[i+count] != want[i-1] && same(want[i+count]) == same(want[i-1]) {
			count++
		}
		if count > 0 {
			return i - 1, count + 1
		}
	}
	return 0, 0
}

// match reports whether a line that was printed is the one that is shown.
func match(want, got string) bool {
	pattern, rest := "", want
	for _, found := range bracketed.FindAllStringSubmatchIndex(want, -1) {
		skipped := len(want) - len(rest)
		name := want[found[2]:found[3]]
		stands, known := placeholders[name]
		if !known {
			stands = `[0-9]+( [0-9]+)*`
		}
		pattern += regexp.QuoteMeta(rest[:found[0]-skipped]) + "(?:" + stands + ")"
		rest = want[found[1]:]
	}
	return regexp.MustCompile("^" + pattern + regexp.QuoteMeta(rest) + "$").MatchString(got)
}

// plain returns the text of a node, in one line and without its markup.
func plain(n ast.Node, source []byte) string {
	var text strings.Builder
	ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if leaf, ok := n.(*ast.Text); ok && entering {
			text.Write(bytes.ReplaceAll(leaf.Value(source), []byte("\n"), []byte(" ")))
			if leaf.SoftLineBreak() {
				text.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return text.String()
}

// raw returns an HTML block as it stands in the source.
func raw(n *ast.HTMLBlock, source []byte) []byte {
	var html []byte
	for i := range n.Lines().Len() {
		segment := n.Lines().At(i)
		html = append(html, segment.Value(source)...)
	}
	if n.HasClosure() {
		html = append(html, n.ClosureLine.Value(source)...)
	}
	return html
}
