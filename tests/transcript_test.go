package tests

import (
	"bytes"
	"fmt"
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
// differs from run to run stands in angle brackets: see placeholders.
// <!-- docker --> above a block says that it needs a Docker engine.
//
// A page falls into sessions, each with terminals and an etcd of its own: see
// sessions.

// page is a Markdown text with transcripts.
type page struct {
	source  []byte
	blocks  []*block
	outside []string // lines of sh blocks: commands that are not run here
	snippet []string // go blocks
	inline  []string // code spans
}

// block is one transcript of a page.
type block struct {
	section    string // the heading above it
	terminal   string
	docker     bool
	start, end int // its place in the source, in bytes
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
	"ID":            `[0-9a-f]{13,16}`,
	"folder":        `\S+`,
	"time":          `[0-9.]+(µs|ms|s)`,
	"pid":           `[0-9]+`,
	"bytes":         `[0-9]+`,
	"term":          `[0-9]+`,
	"ratio":         `[0-9]+\.[0-9]+`,
	"true or false": `(true|false)`,
	"role":          `(leader|follower|no leader)`,
	"member":        `etcd[1-3]`,
	"0 or 1":        `[01]`,
	"port":          `[0-9]+`,
	"log":           `\{"level":.*\}`,
	progress:        ``, // any number of lines
}

// keys are what can be typed while a command runs.
var keys = map[string]string{"^C": "\x03", "^Z": "\x1a"}

// progress stands for all that Compose reports, which differs by version.
const progress = "what Compose reports"

var (
	bracketed = regexp.MustCompile(`<([^<>]+)>`)
	countdown = regexp.MustCompile(`^[0-9]+( [0-9]+)*$`) // such as <2 1 0>
	label     = regexp.MustCompile(`^Terminal [1-9]$`)
	comment   = regexp.MustCompile(`(?s)^\s*<!--(.*?)-->\s*$`)
	starter   = regexp.MustCompile(`^go run \./classroom($| -)`)
)

// parse reads a page. It returns an error for anything in it that would not be
// run and compared.
func parse(source []byte) (*page, error) {
	p := &page{source: source}
	document := goldmark.New().Parser().Parse(text.NewReader(source))
	section := ""
	err := ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			section = plain(n, source)
		case *ast.CodeSpan:
			p.inline = append(p.inline, plain(n, source))
		case *ast.CodeBlock:
			return ast.WalkStop, fmt.Errorf("line %d: an indented block is not run",
				p.lineAt(n.Lines().At(0).Start))
		case *ast.HTMLBlock:
			return ast.WalkContinue, p.checkComment(n)
		case *ast.FencedCodeBlock:
			return ast.WalkContinue, p.add(n, section)
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return nil, err
	}
	return p, p.connectSteps()
}

// add takes up one fenced block.
func (p *page) add(n *ast.FencedCodeBlock, section string) error {
	if n.Lines().Len() == 0 {
		return fmt.Errorf("under %q: an empty block", section)
	}
	first, last := n.Lines().At(0), n.Lines().At(n.Lines().Len()-1)
	line := p.lineAt(first.Start)
	content := string(p.source[first.Start:last.Stop])
	switch language := string(n.Language(p.source)); language {
	case "sh":
		p.outside = append(p.outside, strings.Split(strings.TrimSpace(content), "\n")...)
		return nil
	case "go":
		p.snippet = append(p.snippet, content)
		return nil
	case "console":
	default:
		return fmt.Errorf("line %d: a block marked %q is not run", line, language)
	}
	if n.Parent().Kind() != ast.KindDocument {
		return fmt.Errorf("line %d: a console block inside a list or quotation", line)
	}
	b := &block{section: section, terminal: "Terminal 2", start: first.Start, end: last.Stop}
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
	for i, text := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
		if err := b.read(text, line+i); err != nil {
			return err
		}
	}
	p.blocks = append(p.blocks, b)
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
		if _, known := placeholders[found[1]]; !known && !countdown.MatchString(found[1]) {
			return fmt.Errorf("line %d: unknown placeholder %s", line, found[0])
		}
	}
	last.want = append(last.want, text)
	return nil
}

// sessions returns the blocks in groups that do not depend on each other. A
// session begins where Docker does or ends, and where etcd is started.
func (p *page) sessions() [][]*block {
	var sessions [][]*block
	for i, b := range p.blocks {
		if i == 0 || b.docker != p.blocks[i-1].docker ||
			starter.MatchString(b.steps[0].command) {
			sessions = append(sessions, nil)
		}
		last := &sessions[len(sessions)-1]
		*last = append(*last, b)
	}
	return sessions
}

// connectSteps finds out which commands still run at the end of their step.
func (p *page) connectSteps() error {
	for _, session := range p.sessions() {
		last := map[string]*step{}
		for _, b := range session {
			for _, s := range b.steps {
				if s.command == "" {
					if last[b.terminal] == nil {
						return fmt.Errorf("line %d: nothing runs in %s", s.line, b.terminal)
					}
					last[b.terminal].goesOn = true
				}
				last[b.terminal] = s
			}
		}
	}
	return nil
}

// check refuses blocks that expect nothing, and so could not fail.
func (p *page) check() error {
	for _, session := range p.sessions() {
		for i, b := range session {
			silent := !slices.ContainsFunc(b.steps, func(s *step) bool { return len(s.want) > 0 })
			if silent && !printsLater(b, session[i+1:]) {
				return fmt.Errorf("line %d: a block that expects nothing", b.steps[0].line)
			}
		}
	}
	return nil
}

// printsLater reports whether the last command of b runs on, and a later block
// of its session shows what it prints.
func printsLater(b *block, rest []*block) bool {
	for _, later := range rest {
		if later.terminal == b.terminal {
			first := later.steps[0]
			return first.command == "" && first.key == ""
		}
	}
	return false
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

// rewritten returns the page with what was really printed, where a line differs
// from what the page shows.
func (p *page) rewritten() []byte {
	var out bytes.Buffer
	offset := 0
	for _, b := range p.blocks {
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
	{`\b[0-9]+ bytes`, "<bytes> bytes"},
	{`process [0-9]+`, "process <pid>"},
	{`^\{"level":.*\}$`, "<log>"},
	{`\b[0-9]+\.[0-9]+ lesson/`, "<ratio> lesson/"},
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
	if i := slices.Index(want, "<"+progress+">"); i >= 0 {
		rest := len(want) - i - 1
		if len(got) < i+rest {
			return fmt.Errorf("missing: %d lines were printed", len(got))
		}
		if err := compare(want[:i], got[:i]); err != nil {
			return err
		}
		return compare(want[i+1:], got[len(got)-rest:])
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

// plain returns the text of a node without its markup.
func plain(n ast.Node, source []byte) string {
	var text strings.Builder
	ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if leaf, ok := n.(*ast.Text); ok && entering {
			text.Write(leaf.Value(source))
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
