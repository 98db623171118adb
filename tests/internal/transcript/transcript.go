// Package transcript reads the pages, plays what they show at a prompt in terminals,
// and compares what is printed.
package transcript

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
// above a block says where it is typed; without one it is Terminal 2. "**Ann's Terminal
// 1**" is at a machine of Ann's, which reaches a class on the machine of the others. What
// differs from run to run stands in angle brackets: see placeholders and many. A <code>
// that is typed is the one that was printed last.
// A picture run-….svg shows what etcd did from the last reset to the end of the block
// above it: it is drawn from the history of that very run.
// <!-- docker --> above a block says that it needs a Docker engine.
// <!-- mended 06-mirror --> says that the reader has mended that exercise by now, or
// several: their solutions take the place of the copies.
//
// A Go program, from its package clause on, is saved as main.go in the folder
// that its terminal is in, the same as if it were typed there.
//
// A page falls into sections, one for each heading of level 2, and these into
// sessions, each with terminals and an etcd of its own: see sessions.

// Emptying is the command with which the history for a picture begins.
const Emptying = "go run ./classroom reset"

// Page is a Markdown text with transcripts.
type Page struct {
	Name     string // such as docs/PROOF.md
	Source   []byte
	Document ast.Node
	Anchors  []string // of the headings: what links to them have after #
	Blocks   []*Block
	Outside  []string // lines of sh blocks: commands that are not run here
	Snippets []string // go blocks
	Inline   []string // code spans
}

// Block is one transcript of a page.
type Block struct {
	Section    string // the heading of level 2 above it, or else that of the page
	heading    string // the heading above it
	terminal   string
	docker     bool
	mended     []string // the exercises that the reader has mended before it
	program    bool     // it is a program to save, and no transcript
	start, end int      // its place in the source, in bytes
	Steps      []*step
	Picture    string // of what etcd did until its end; empty for none
}

// step is something that is done at a terminal, and what is printed after it.
type step struct {
	typed     []string // the lines as they stand in the block
	Command   string   // what is sent to the shell; empty for a key and for none
	key       string   // what ^C or ^Z sends to the terminal
	line      int      // its line in the page, from 1
	want, got []string
	goesOn    bool // the command still runs when the next step begins
	draws     bool // what etcd does after it is drawn
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
	"code":   joinCode.String(),
}

// joinCode is the part of a class's join code after the address.
var joinCode = regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}\b`)

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
	label     = regexp.MustCompile(`^(?:([A-Z][a-z]+)'s )?Terminal [1-9]$`)
	comment   = regexp.MustCompile(`(?s)^\s*<!--(.*?)-->\s*$`)
	marker    = regexp.MustCompile(`^\s*<!-- (?:docker|mended((?: [0-9]{2}-[a-z]+)+)) -->\s*$`)
	ofRun     = regexp.MustCompile(`(^|/)run-[0-9]+\.svg$`)
	silent    = regexp.MustCompile(`[^\pL\pM\p{Nd}\p{Pc} -]`) // what an anchor leaves out
	starter   = regexp.MustCompile(`^go run (\./classroom( -\S+( \S+)?)*$|go\.etcd\.io/etcd/server/v3($| ))`)
)

// Parse reads a page. It returns an error for anything in it that would not be
// run and compared.
func Parse(source []byte) (*Page, error) {
	p := &Page{Source: source}
	p.Document = goldmark.New().Parser().Parse(text.NewReader(source))
	section, above := "", ""
	err := ast.Walk(p.Document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			above = Text(n, source)
			if n.Level <= 2 {
				section = above
			}
			p.Anchors = append(p.Anchors, p.anchor(above))
		case *ast.CodeSpan:
			p.Inline = append(p.Inline, Text(n, source))
		case *ast.Image:
			return ast.WalkContinue, p.addPicture(string(n.Destination))
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
func (p *Page) add(n *ast.FencedCodeBlock, section, heading string) error {
	if n.Lines().Len() == 0 {
		return fmt.Errorf("under %q: an empty block", heading)
	}
	first, last := n.Lines().At(0), n.Lines().At(n.Lines().Len()-1)
	line := p.lineAt(first.Start)
	content := string(p.Source[first.Start:last.Stop])
	program := false
	switch language := string(n.Language(p.Source)); language {
	case "sh":
		for command := range strings.SplitSeq(strings.TrimSpace(content), "\n") {
			command, _, _ = strings.Cut(command, "  # ") // What it does may stand behind it.
			p.Outside = append(p.Outside, strings.TrimSpace(command))
		}
		return nil
	case "go":
		if program = strings.HasPrefix(content, "package main\n"); !program {
			p.Snippets = append(p.Snippets, content)
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
	b := &Block{Section: section, heading: heading, terminal: "Terminal 2", program: program,
		start: first.Start, end: last.Stop}
	above := n.PreviousSibling()
	if block, ok := above.(*ast.HTMLBlock); ok && comment.Match(html(block, p.Source)) {
		// checkComment lets no other pass.
		mended := marker.FindSubmatch(html(block, p.Source))
		b.mended, b.docker = strings.Fields(string(mended[1])), len(mended[1]) == 0
		above = above.PreviousSibling()
	}
	if paragraph, ok := above.(*ast.Paragraph); ok {
		if strong, ok := paragraph.FirstChild().(*ast.Emphasis); ok {
			if name := Text(strong, p.Source); strings.Contains(name, "Terminal") {
				if !label.MatchString(name) {
					return fmt.Errorf("line %d: unknown label %q", line, name)
				}
				b.terminal = name
			}
		}
	}
	p.Blocks = append(p.Blocks, b)
	if program {
		b.Steps = []*step{{line: line, Command: "cat >main.go <<'EOF'\n" + content + "EOF"}}
		return nil
	}
	for i, text := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
		if err := b.read(text, line+i); err != nil {
			return err
		}
	}
	return nil
}

// addPicture takes up a picture that is drawn, and marks the step with which it
// begins. When there is none, who draws it says so.
func (p *Page) addPicture(destination string) error {
	if !ofRun.MatchString(destination) {
		return nil
	}
	if len(p.Blocks) == 0 {
		return fmt.Errorf("%s: nothing is run before it", destination)
	}
	p.Blocks[len(p.Blocks)-1].Picture = destination
	for _, b := range slices.Backward(p.Blocks) {
		for _, s := range slices.Backward(b.Steps) {
			if s.Command == Emptying {
				s.draws = true
				return nil
			}
		}
	}
	return nil
}

// read takes up one line of a transcript.
func (b *Block) read(text string, line int) error {
	if command, ok := strings.CutPrefix(text, "$ "); ok {
		b.Steps = append(b.Steps, &step{
			typed: []string{text}, Command: command, line: line})
		return nil
	}
	if key, ok := keys[text]; ok {
		b.Steps = append(b.Steps, &step{typed: []string{text}, key: key, line: line})
		return nil
	}
	if len(b.Steps) == 0 {
		b.Steps = append(b.Steps, &step{line: line})
	}
	last := b.Steps[len(b.Steps)-1]
	if strings.HasPrefix(text, ">") && last.Command != "" && last.want == nil {
		last.typed = append(last.typed, text)
		last.Command += "\n" + strings.TrimPrefix(text[1:], " ")
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

// Session is a group of blocks that depends on no other.
type Session []*Block

// Sessions returns the sessions of the page. One begins with a section, where
// Docker begins or ends, and where etcd is started.
func (p *Page) Sessions() []Session {
	var sessions []Session
	for i, b := range p.Blocks {
		if i == 0 || b.Section != p.Blocks[i-1].Section ||
			b.docker != p.Blocks[i-1].docker || b.startsEtcd() {
			sessions = append(sessions, nil)
		}
		last := &sessions[len(sessions)-1]
		*last = append(*last, b)
	}
	return sessions
}

// Name tells the session from the others of its page, or from most.
func (s Session) Name() string {
	name := s[0].Section
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
func (s Session) needsEtcd() bool { return !s[0].docker && !s[0].startsEtcd() }

// types reports whether something is typed in the session that matches the pattern.
func (s Session) types(pattern string) bool {
	return slices.ContainsFunc(s, func(b *Block) bool {
		return slices.ContainsFunc(b.Steps, func(s *step) bool { return regexp.MustCompile(pattern).MatchString(s.Command) })
	})
}

// machine returns whose machine the block is typed at, or "" for the one that has no name.
func (b *Block) machine() string { return label.FindStringSubmatch(b.terminal)[1] }

func (b *Block) startsEtcd() bool { return starter.MatchString(b.Steps[0].Command) }

// connectSteps finds out which commands still run at the end of their step.
func (p *Page) connectSteps() error {
	for _, session := range p.Sessions() {
		last := map[string]*step{}
		etcd := &step{} // The command that started it is not on the page.
		if session.needsEtcd() {
			last["Terminal 1"] = etcd
		}
		for _, b := range session {
			for _, s := range b.Steps {
				if s.Command != "" && last[b.terminal] == etcd {
					return fmt.Errorf("line %d: etcd runs in %s", s.line, b.terminal)
				}
				if s.Command == "" {
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
				s.goesOn = starter.MatchString(s.Command)
				last[b.terminal] = s
			}
		}
	}
	return nil
}

// Check refuses blocks that expect nothing, and so could not fail. An etcd that is
// started has to answer, and a program is run by what follows. It also refuses to
// make folders that would stay: a session has a home folder of its own.
func (p *Page) Check() error {
	for _, session := range p.Sessions() {
		for i, b := range session {
			for _, s := range b.Steps {
				if strings.HasPrefix(s.Command, "mkdir ") && !strings.HasPrefix(s.Command, "mkdir ~/") {
					return fmt.Errorf("line %d: a folder that stays; make it in ~", s.line)
				}
			}
			silent := !slices.ContainsFunc(b.Steps, func(s *step) bool { return len(s.want) > 0 })
			if silent && !b.program && !b.startsEtcd() && !printsLater(b, session[i+1:]) {
				return fmt.Errorf("line %d: a block that expects nothing", b.Steps[0].line)
			}
		}
	}
	return nil
}

// printsLater reports whether the last command of b runs on, and a later block
// of its session shows what it prints.
func printsLater(b *Block, rest Session) bool {
	for _, later := range rest {
		if later.terminal == b.terminal {
			first := later.Steps[0]
			return first.Command == "" && first.key == ""
		}
	}
	return false
}

// anchor returns what GitHub makes of a heading for links to it.
func (p *Page) anchor(text string) string {
	name := strings.ReplaceAll(strings.ToLower(silent.ReplaceAllString(text, "")), " ", "-")
	anchor := name
	for i := 1; slices.Contains(p.Anchors, anchor); i++ {
		anchor = fmt.Sprint(name, "-", i)
	}
	return anchor
}

// checkComment refuses comments that mean nothing to this test.
func (p *Page) checkComment(n *ast.HTMLBlock) error {
	found := comment.FindSubmatch(html(n, p.Source))
	if found == nil {
		return nil
	}
	line := p.lineAt(n.Lines().At(0).Start)
	if !marker.Match(html(n, p.Source)) {
		return fmt.Errorf("line %d: unknown marker %q", line, strings.TrimSpace(string(found[1])))
	}
	next, ok := n.NextSibling().(*ast.FencedCodeBlock)
	if !ok || string(next.Language(p.Source)) != "console" {
		return fmt.Errorf("line %d: a marker that is not above a console block", line)
	}
	return nil
}

func (p *Page) lineAt(offset int) int {
	return 1 + bytes.Count(p.Source[:offset], []byte("\n"))
}

// Forget drops what a session printed, so that its part of the page stays as it is.
func (s Session) Forget() {
	for _, b := range s {
		for _, step := range b.Steps {
			step.got = nil
		}
	}
}

// Rewritten returns the page with what was really printed, where a line differs
// from what the page shows.
func (p *Page) Rewritten() []byte {
	var out bytes.Buffer
	offset := 0
	for _, b := range p.Blocks {
		if b.program {
			continue
		}
		out.Write(p.Source[offset:b.start])
		for _, s := range b.Steps {
			for _, line := range slices.Concat(s.typed, s.merged()) {
				out.WriteString(line + "\n")
			}
		}
		offset = b.end
	}
	out.Write(p.Source[offset:])
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
	{joinCode.String(), "<code>"},
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

// Text returns the text of a node, in one line and without its markup.
func Text(n ast.Node, source []byte) string {
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

// html returns an HTML block as it stands in the source.
func html(n *ast.HTMLBlock, source []byte) []byte {
	html := n.Lines().Value(source)
	if n.HasClosure() {
		html = append(html, n.ClosureLine.Value(source)...)
	}
	return html
}
