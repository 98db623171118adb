package tests

import (
	"bytes"
	"errors"
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
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
	"example.com/etcd-by-example/tests/internal/transcript"
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
	checkCommands(t, pages)
	code := lessonCode(t)
	for _, p := range pages {
		for _, snippet := range p.Snippets {
			if !strings.Contains(code, flat(snippet)) {
				t.Errorf("%s: Go code that is in no lesson:\n%s", p.Name, snippet)
			}
		}
		checkLinks(t, p)
	}
	checkLessons(t, pages[0])
}

// readPages returns README.md and the pages in docs.
func readPages(t *testing.T) []*transcript.Page {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(harness.Root, "docs", "*.md"))
	etcdtest.NoError(t, err)
	var pages []*transcript.Page
	for _, name := range append([]string{filepath.Join(harness.Root, "README.md")}, names...) {
		source, err := os.ReadFile(name)
		etcdtest.NoError(t, err)
		name, err := filepath.Rel(harness.Root, name)
		etcdtest.NoError(t, err)
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
func checkCommands(t *testing.T, pages []*transcript.Page) {
	t.Helper()
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
		t.Errorf("commands outside of transcripts: %q, want %q", named, want)
	}
	for _, p := range pages {
		for _, span := range p.Inline {
			word, _, more := strings.Cut(span, " ")
			if !more || !slices.Contains([]string{"go", "docker", "git", "export"}, word) {
				continue
			}
			// The exercises have one command, with a number each.
			if number, ok := strings.CutPrefix(span, "go run ./classroom check start "); ok {
				_, err := check.Find(number)
				etcdtest.NoError(t, err)
				continue
			}
			if !slices.ContainsFunc(commands, func(command string) bool { return strings.HasPrefix(command, span) }) {
				t.Errorf("%s mentions %q, and no transcript runs it", p.Name, span)
			}
		}
	}
}

// lessonCode returns the files that the tests run and the pages quote, flat.
func lessonCode(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	for _, folder := range slices.Concat(harness.Lessons, []string{"shared", "tests/testdata/*"}) {
		files, err := filepath.Glob(filepath.Join(harness.Root, folder, "*.go"))
		etcdtest.NoError(t, err)
		for _, file := range files {
			source, err := os.ReadFile(file)
			etcdtest.NoError(t, err)
			code.WriteString(flat(string(source)))
		}
	}
	return code.String()
}

// flat returns code without its indentation.
func flat(code string) string { return indentation.ReplaceAllString(code, "") }

var indentation = regexp.MustCompile(`(?m)^[ \t]+|[ \t]+$`)

// checkLinks refuses links within the repository that lead nowhere, and images that
// say nothing to those who do not see them.
func checkLinks(t *testing.T, p *transcript.Page) {
	t.Helper()
	if html := attribute.Find(p.Source); html != nil {
		t.Errorf("%s: a link in HTML is not followed: %s", p.Name, html)
	}
	ast.Walk(p.Document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		var destination []byte
		switch n := n.(type) {
		case *ast.Link:
			destination = n.Destination
		case *ast.Image:
			destination = n.Destination
			if text := transcript.Text(n, p.Source); len(text) < 20 {
				t.Errorf("%s: %s is described by %q alone", p.Name, destination, text)
			}
		}
		if err := followLink(p, string(destination)); err != nil {
			t.Errorf("%s: %s: %v", p.Name, destination, err)
		}
		return ast.WalkContinue, nil
	})
}

// attribute is where HTML has a link.
var attribute = regexp.MustCompile(`<\w[^>]*(href|src|srcset)\s*=[^>]*`)

// followLink returns an error when a link of the page leads nowhere in the repository.
// Links to elsewhere are left alone.
func followLink(p *transcript.Page, destination string) error {
	link, err := url.Parse(destination)
	if err != nil || link.Scheme != "" || link.Host != "" {
		return err
	}
	if link.Path != "" {
		name := path.Join(path.Dir(p.Name), link.Path)
		if !filepath.IsLocal(name) || path.IsAbs(link.Path) {
			return errors.New("it leads out of the repository")
		}
		file := filepath.Join(harness.Root, name)
		if link.Fragment == "" {
			_, err := os.Stat(file)
			return err
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if p, err = transcript.Parse(source); err != nil {
			return err
		}
	}
	if link.Fragment != "" && !slices.Contains(p.Anchors, link.Fragment) {
		return errors.New("there is no such heading")
	}
	return nil
}

// landmarks are how the parts of a lesson's section open, with NN for its number.
var landmarks = []string{
	"You will learn ", "**The idea.** ", "**Run it.**", "](docs/pictures/run-NN.svg)", "**The code that matters.** ", "**The same with etcdctl.**",
	"**Usual mistakes.**\n- ", "<summary>Predict, then run: ", "### Break NN: ", "### Exercise NN: ",
}

// checkLessons refuses a README.md that is too long, or in which the section of a lesson
// lacks a part, or has it in another place, or takes a store that holds anything.
func checkLessons(t *testing.T, p *transcript.Page) {
	t.Helper()
	if lines := bytes.Count(p.Source, []byte("\n")); lines > longest {
		t.Errorf("%s has %d lines, and may have %d", p.Name, lines, longest)
	}
	for _, lesson := range harness.Lessons {
		_, section, _ := strings.Cut(string(p.Source), "\n## "+lesson+"\n")
		rest, _, _ := strings.Cut(section, "\n## ")
		for _, landmark := range landmarks {
			landmark = strings.Replace(landmark, "NN", lesson[:2], 1)
			_, after, found := strings.Cut(rest, landmark)
			if !found {
				t.Errorf("%s: %s: %q is missing, or not in its place", p.Name, lesson, landmark)
				break
			}
			rest = after
		}
		first := slices.IndexFunc(p.Blocks, func(b *transcript.Block) bool { return b.Section == lesson })
		if first < 0 || p.Blocks[first].Steps[0].Command != transcript.Emptying {
			t.Errorf("%s: the first command of %s must be %s", p.Name, lesson, transcript.Emptying)
		}
	}
}
