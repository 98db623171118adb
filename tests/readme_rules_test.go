package tests

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/goldmark/ast"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/tests/internal/harness"
	"example.com/etcd-by-example/tests/internal/transcript"
)

// sections are the headings of level 2 that README.md has.
var sections = slices.Concat(
	[]string{"Why one would want it", "Two commands first", "How to read this page",
		"Start an etcd", "The eight lessons"},
	harness.Lessons,
	[]string{"Three members", "The exercises", "In your own program", "Where to go from here", "Troubleshooting"},
)

// longest is how many lines README.md may have.
const longest = 1200

// outside are the commands of the pages that are no transcripts.
var outside = []string{
	"git clone <this repository> etcd-by-example",
	"cd etcd-by-example",
	"go run ./classroom tour",
	"go tool etcdctl version",
	"go run ./classroom check",
	"go run ./classroom check 06 -v",
	"go -C my run ./06-mirror",
	"go run ./classroom check -watch",
	"go run ./classroom check hint 06",
	"go run ./classroom check reset 06",
	"go run ./classroom check solution 06",
	"go run ./classroom check all -json",
	"go test -count=1 work",
	"go test -count=1 ./classroom/class -run 'Wall|Door|Dismissed|Tries|Room'",
	"go test -count=1 ./tests -run Proof -nightly -timeout 2h",
	"go test -count=1 ./tests -run '^$' -bench LockCycle",
	"go test -count=1 ./tests -run Mutants -nightly -v -timeout 4h",
	"go test -count=1 ./tests -run Exercises -long",
	"go test -count=1 ./tests -run Exercises -nightly -timeout 2h",
	"go test -count=1 ./tests -run 'Pages/README.md/05-lease' -update",
}

// TestPageRules checks what holds for the pages beside their transcripts.
func TestPageRules(t *testing.T) {
	t.Parallel()
	pages := readPages(t)
	if err := checkCommands(pages); err != nil {
		t.Error(err)
	}
	for _, p := range pages {
		if err := errors.Join(checkSnippets(p, harness.Root), checkLinks(p, harness.Root)); err != nil {
			t.Errorf("%s:\n%v", p.Name, err)
		}
	}
	if err := checkLayout(pages[0]); err != nil {
		t.Errorf("%s:\n%v", pages[0].Name, err)
	}
}

// readPages returns README.md and the pages in docs.
func readPages(t *testing.T) []*transcript.Page {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(harness.Root, "docs", "*.md"))
	harness.NoError(t, err)
	var pages []*transcript.Page
	for _, name := range append([]string{filepath.Join(harness.Root, "README.md")}, names...) {
		source, err := os.ReadFile(name)
		harness.NoError(t, err)
		name, err := filepath.Rel(harness.Root, name)
		harness.NoError(t, err)
		p, err := transcript.Parse(source)
		if err != nil {
			t.Fatalf("%s, %v", name, err)
		}
		p.Name = filepath.ToSlash(name)
		pages = append(pages, p)
	}
	return pages
}

// checkCommands refuses commands that no transcript runs: in sh blocks all but
// those of outside, and code spans that look like a command to type.
func checkCommands(pages []*transcript.Page) error {
	var wrong []error
	var named []string
	commands := slices.Clone(outside)
	for _, p := range pages {
		named = append(named, p.Outside...)
		for _, b := range p.Blocks {
			for _, s := range b.Steps {
				commands = append(commands, s.Command)
			}
		}
	}
	slices.Sort(named)
	named = slices.Compact(named)
	if want := slices.Sorted(slices.Values(outside)); !slices.Equal(named, want) {
		wrong = append(wrong, fmt.Errorf("commands outside of transcripts: %q, want %q", named, want))
	}
	for _, p := range pages {
		for _, span := range p.Inline {
			word, _, more := strings.Cut(span, " ")
			if !more || !slices.Contains([]string{"go", "docker", "git", "export"}, word) {
				continue
			}
			// The exercises have one command, with a number each.
			if word, number, ok := strings.Cut(span, " check start "); ok && word == "go run ./classroom" {
				if _, err := check.Find(number); err == nil {
					continue
				}
			}
			if !slices.ContainsFunc(commands, func(command string) bool {
				return strings.HasPrefix(command, span)
			}) {
				wrong = append(wrong, fmt.Errorf("%s mentions %q, and no transcript runs it", p.Name, span))
			}
		}
	}
	return errors.Join(wrong...)
}

// checkSnippets refuses Go code that does not stand as it is in a file that the
// tests run.
func checkSnippets(p *transcript.Page, root string) error {
	var sources strings.Builder
	for _, folder := range append(harness.Lessons, "shared", "tests/testdata/*") {
		files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		if err != nil {
			return err
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			sources.WriteString(flat(string(source)))
		}
	}
	var wrong []error
	for _, snippet := range p.Snippets {
		if !strings.Contains(sources.String(), flat(snippet)) {
			wrong = append(wrong, fmt.Errorf("Go code that is in no lesson:\n%s", snippet))
		}
	}
	return errors.Join(wrong...)
}

// flat returns code without its indentation.
func flat(code string) string {
	var lines strings.Builder
	for line := range strings.Lines(code) {
		lines.WriteString(strings.TrimSpace(line) + "\n")
	}
	return lines.String()
}

// checkLinks refuses links within the repository, which is in the folder root,
// that lead nowhere, and images that say nothing to those who do not see them.
func checkLinks(p *transcript.Page, root string) error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	follow := func(destination []byte) {
		if err := followLink(p, root, string(destination)); err != nil {
			refuse("%s: %w", destination, err)
		}
	}
	ast.Walk(p.Document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Link:
			follow(n.Destination)
		case *ast.Image:
			follow(n.Destination)
			if text := transcript.Text(n, p.Source); len(text) < 20 {
				refuse("%s: the image is described by %q alone", n.Destination, text)
			}
		case *ast.HTMLBlock:
			if html := transcript.HTML(n, p.Source); attribute.Match(html) {
				refuse("a link in HTML is not followed: %s", html)
			}
		case *ast.RawHTML:
			for i := range n.Segments.Len() {
				segment := n.Segments.At(i)
				if html := segment.Value(p.Source); attribute.Match(html) {
					refuse("a link in HTML is not followed: %s", html)
				}
			}
		}
		return ast.WalkContinue, nil
	})
	return errors.Join(wrong...)
}

// attribute is where HTML has a link.
var attribute = regexp.MustCompile(`(href|src|srcset)\s*=`)

// followLink returns an error when a link of the page leads nowhere in the repository.
// Links to elsewhere are left alone.
func followLink(p *transcript.Page, root, destination string) error {
	link, err := url.Parse(destination)
	if err != nil || link.Scheme != "" || link.Host != "" {
		return err
	}
	target := p
	if link.Path != "" {
		name := path.Join(path.Dir(p.Name), link.Path)
		if !filepath.IsLocal(name) || path.IsAbs(link.Path) {
			return errors.New("it leads out of the repository")
		}
		file := filepath.Join(root, name)
		if _, err := os.Stat(file); err != nil || link.Fragment == "" {
			return err
		}
		if path.Ext(name) != ".md" {
			return errors.New("only pages have headings")
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if target, err = transcript.Parse(source); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(target.Headings, func(h transcript.Heading) bool { return h.Anchor == link.Fragment }) {
		return errors.New("there is no such heading")
	}
	return nil
}

// checkLayout refuses a README.md that is too long or ordered in another way.
func checkLayout(p *transcript.Page) error {
	var wrong []error
	if lines := bytes.Count(p.Source, []byte("\n")); lines > longest {
		wrong = append(wrong, fmt.Errorf("it has %d lines, and may have %d", lines, longest))
	}
	var found []string
	for _, h := range p.Headings {
		if h.Node.Level == 2 {
			found = append(found, h.Text)
		}
		if h.Node.Level == 2 && slices.Contains(harness.Lessons, h.Text) {
			wrong = append(wrong, checkLesson(p, h))
		}
	}
	if !slices.Equal(found, sections) {
		return errors.Join(append(wrong, fmt.Errorf("its sections are %q, want %q", found, sections))...)
	}
	return errors.Join(append(wrong, checkMembers(p))...)
}

// landmarks are how the parts of a lesson's section open.
var landmarks = []string{
	learn, idea, "Run it.", code, "The same with etcdctl.", mistakes, predict, "Break", "Exercise",
}

const (
	learn    = "You will learn"
	idea     = "The idea."
	code     = "The code that matters."
	mistakes = "Usual mistakes."
	predict  = "Predict, then run."
)

var (
	sentence = regexp.MustCompile(`[.!?]["')]*( |$)`)
	tag      = regexp.MustCompile(`<[^>]*>`)
	breaks   = regexp.MustCompile(`^Break ([0-9]{2}): `)
)

// checkLesson refuses a lesson's section that lacks a part, or has too much in one.
func checkLesson(p *transcript.Page, h transcript.Heading) error {
	var wrong []error
	refuse := func(format string, args ...any) {
		wrong = append(wrong, fmt.Errorf(h.Text+": "+format, args...))
	}
	var found []string
	excerpts := 0
	for i, n := range under(h) {
		opening := opening(p, n, h.Text[:2])
		if i == 0 && opening != learn {
			refuse("it does not begin with %q", learn)
		}
		if opening != "" {
			found = append(found, opening)
		}
		if len(found) == 0 {
			continue
		}
		switch part := found[len(found)-1]; n := n.(type) {
		case *ast.Paragraph:
			text := transcript.Text(n, p.Source)
			if count := len(sentence.FindAllString(text, -1)) - 1; strings.HasPrefix(text, idea) && count > 5 {
				refuse("the idea takes %d sentences, and may take 5", count)
			}
			list, _ := n.NextSibling().(*ast.List)
			if strings.HasPrefix(text, mistakes) && (list == nil || list.ChildCount() > 5) {
				refuse("under %q there must be a list of at most 5", mistakes)
			}
		case *ast.FencedCodeBlock:
			lines := n.Lines().Len()
			if part == code && string(n.Language(p.Source)) == "go" && lines >= 5 && lines <= 15 {
				excerpts++
			}
		}
	}
	if found = slices.Compact(found); !slices.Equal(found, landmarks) {
		refuse("its parts are %q, want %q", found, landmarks)
	}
	if excerpts == 0 {
		refuse("under %q there must be 5 to 15 lines of Go", code)
	}
	first := slices.IndexFunc(p.Blocks, func(b *transcript.Block) bool { return b.Section == h.Text })
	if first < 0 || p.Blocks[first].Steps[0].Command != transcript.Emptying {
		refuse("its first command must be %s", transcript.Emptying)
	}
	picture := "docs/pictures/run-" + h.Text[:2] + ".svg"
	if !slices.ContainsFunc(p.Blocks, func(b *transcript.Block) bool { return b.Section == h.Text && b.Picture == picture }) {
		refuse("the picture of its run, %s, is not there", picture)
	}
	return errors.Join(wrong...)
}

// opening returns the landmark with which n opens a part of the lesson with that
// number, a heading that is none, or nothing.
func opening(p *transcript.Page, n ast.Node, number string) string {
	switch n := n.(type) {
	case *ast.Heading:
		text := transcript.Text(n, p.Source)
		switch {
		case n.Level > 3:
			return ""
		case strings.HasPrefix(text, "Break "+number+": "):
			return "Break"
		case strings.HasPrefix(text, "Exercise "+number+": "):
			return "Exercise"
		}
		return text
	case *ast.Paragraph:
		if strong, ok := n.FirstChild().(*ast.Emphasis); ok && strong.Level == 2 {
			if text := transcript.Text(strong, p.Source); slices.Contains(landmarks, text) {
				return text
			}
		}
		if strings.HasPrefix(transcript.Text(n, p.Source), learn) {
			return learn
		}
	case *ast.HTMLBlock: // The question may be what unfolds its answer.
		text := strings.TrimSpace(tag.ReplaceAllString(string(transcript.HTML(n, p.Source)), ""))
		if strings.HasPrefix(text, strings.TrimSuffix(predict, ".")) {
			return predict
		}
	}
	return ""
}

// checkMembers refuses parts under "Three members" that are not in the order of
// the lessons, or that a lesson does not know, or that do not know it.
func checkMembers(p *transcript.Page) error {
	var wrong []error
	section, last := "", ""
	for _, h := range p.Headings {
		if h.Node.Level <= 2 {
			section = h.Text
		}
		found := breaks.FindStringSubmatch(h.Text)
		if section != "Three members" || found == nil {
			continue
		}
		number := found[1]
		if number < last {
			wrong = append(wrong, fmt.Errorf("%q comes after that of lesson %s", h.Text, last))
		}
		last = number
		at := slices.IndexFunc(p.Headings, func(h transcript.Heading) bool {
			return h.Node.Level == 2 && strings.HasPrefix(h.Text, number+"-")
		})
		if at < 0 {
			wrong = append(wrong, fmt.Errorf("%q is of no lesson", h.Text))
			continue
		}
		lesson := p.Headings[at]
		if !slices.Contains(links(under(h)), "#"+lesson.Anchor) {
			wrong = append(wrong, fmt.Errorf("%q has no link to %s", h.Text, lesson.Text))
		}
		if !slices.Contains(links(under(lesson)), "#"+h.Anchor) {
			wrong = append(wrong, fmt.Errorf("%s has no link to %q", lesson.Text, h.Text))
		}
	}
	return errors.Join(wrong...)
}

// under returns what stands under a heading, to the next of its level or above.
func under(h transcript.Heading) (nodes []ast.Node) {
	for n := h.Node.NextSibling(); n != nil; n = n.NextSibling() {
		if next, ok := n.(*ast.Heading); ok && next.Level <= h.Node.Level {
			break
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// links returns where the links in nodes lead.
func links(nodes []ast.Node) (links []string) {
	for _, n := range nodes {
		ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
			if link, ok := n.(*ast.Link); ok && entering {
				links = append(links, string(link.Destination))
			}
			return ast.WalkContinue, nil
		})
	}
	return links
}
