package tests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/etcd-by-example/tests/internal/harness"
	"example.com/etcd-by-example/tests/internal/transcript"
)

// TestPageRulesCanFail takes a README.md that is right, and has it refused for
// one thing at a time.
func TestPageRulesCanFail(t *testing.T) {
	lines := func(count int) string { return strings.Repeat("x\n", count) }
	for _, c := range []struct {
		name, old, new string
		err            string // empty: the page is right
	}{
		{"right", "", "", ""},
		{"five sentences, one over two lines", "Short.", "One. Two 3.7.3? Three.\nFour, and\nso on. Five.", ""},
		{"five mistakes", "- a\n", "- a\n- b\n- c\n- d\n- e\n", ""},
		{"a short excerpt beside the other", "```\n\n**The same", "```\n\n```go\nx\n```\n\n**The same", ""},
		{"the question is what unfolds its answer", "**Predict, then run.** Which?",
			"<details>\n<summary>Predict, then run: which?</summary>\n\nThis.\n\n</details>", ""},
		{"a picture", "**Run it.**", "![A watch that misses nothing](watch.svg)\n\n**Run it.**", ""},
		{"a part with Docker", "## In your own program", "### With Docker\n\n## In your own program", ""},

		{"too long", "# etcd", strings.Repeat("\n", longest) + "# etcd", "lines, and may have"},
		{"a section too many", "## Three members", "## More\n\n## Three members", "its sections are"},
		{"a section missing", "## Troubleshooting", "### Troubleshooting", "its sections are"},
		{"another order", "## Start an etcd\n\n## The eight lessons", "## The eight lessons\n\n## Start an etcd", "its sections are"},
		{"no aim", "You will learn this.\n\n", "", "does not begin with"},
		{"something before the aim", "You will learn", "Welcome.\n\nYou will learn", "does not begin with"},
		{"no idea", "**The idea.** Short.\n\n", "", "its parts are"},
		{"not bold", "**Run it.**", "Run it.", "its parts are"},
		{"the code before the run", "**Run it.**", "**The code that matters.**\n\n**Run it.**", "its parts are"},
		{"no etcdctl", "**The same with etcdctl.**", "", "its parts are"},
		{"no question", "**Predict, then run.**", "", "its parts are"},
		{"nothing to break", "### Break 01: it", "#### Break 01: it", "its parts are"},
		{"no exercise", "### Exercise 01: it", "#### Exercise 01: it", "its parts are"},
		{"another lesson's exercise", "### Exercise 01: it", "### Exercise 02: it", "its parts are"},
		{"another lesson's number", "### Break 01: it", "### Break 02: it", "its parts are"},
		{"a part after the break", "## 02-put", "### What it costs\n\n## 02-put", "its parts are"},
		{"six sentences", "Short.", "One. Two. Three. Four. Five.\nSix!", "takes 6 sentences"},
		{"six mistakes", "- a\n", "- a\n- b\n- c\n- d\n- e\n- f\n", "a list of at most 5"},
		{"no list of mistakes", "- a\n", "a\n", "a list of at most 5"},
		{"four lines of Go", lines(5), lines(4), "5 to 15 lines"},
		{"sixteen lines of Go", lines(5), lines(16), "5 to 15 lines"},
		{"the excerpt elsewhere", "**The code that matters.**\n\n```go\n" + lines(5) + "```\n",
			"```go\n" + lines(5) + "```\n\n**The code that matters.**\n", "5 to 15 lines"},
		{"no reset", "$ go run ./classroom reset", "$ go run ./01-connect", "its first command"},
		{"no transcript", "```console\n$ go run ./classroom reset\nok\n```\n\n![What etcd did in this run](docs/pictures/run-01.svg)\n", "", "its first command"},
		{"no picture of the run", "docs/pictures/run-02.svg", "docs/pictures/lease.svg", "run-02.svg, is not there"},
		{"the picture of another run", "run-04.svg", "run-03.svg", "run-04.svg, is not there"},
		{"members in another order", "### Break 01: more", "### Break 06: again\n\n[06](#06-watch)\n\n### Break 01: more", "comes after that of lesson 06"},
		{"members of no lesson", "### Break 05: more", "### Break 09: more", "is of no lesson"},
		{"no link to the lesson", "[05](#05-lease)", "05", "has no link to 05-lease"},
		{"no link from the lesson", "[More](#break-05-more)", "More", "05-lease has no link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := strings.Replace(rightPage(), c.old, c.new, 1)
			if c.old != "" && page == rightPage() {
				t.Fatal("nothing is changed")
			}
			p, err := transcript.Parse([]byte(page))
			if err != nil {
				t.Fatal(err)
			}
			harness.Refused(t, checkLayout(p), c.err)
		})
	}
}

// rightPage returns a README.md that has all that it must.
func rightPage() string {
	var page strings.Builder
	page.WriteString("# etcd\n\n")
	for _, section := range sections {
		fmt.Fprintf(&page, "## %s\n\n", section)
		if number, _, lesson := strings.Cut(section, "-"); lesson {
			fmt.Fprint(&page, "You will learn this.\n\n**The idea.** Short.\n\n**Run it.**\n\n",
				"```console\n$ go run ./classroom reset\nok\n```\n\n",
				"![What etcd did in this run](docs/pictures/run-", number, ".svg)\n\n",
				"**The code that matters.**\n\n```go\nx\nx\nx\nx\nx\n```\n\n",
				"**The same with etcdctl.**\n\n**Usual mistakes.**\n\n- a\n\n**Predict, then run.** Which?\n\n",
				"### Break ", number, ": it\n\n[More](#break-", number, "-more)\n\n",
				"### Exercise ", number, ": it\n\n")
		}
		if section == "Three members" {
			page.WriteString("### Break 01: more\n\n[01](#01-connect)\n\n### Break 05: more\n\n[05](#05-lease)\n\n")
		}
	}
	return page.String()
}

// TestCommandsAndCodeCanFail has pages refused that show what nobody runs.
func TestCommandsAndCodeCanFail(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{
		"06-watch/main.go": "package main\n\nfunc run() {\n\tget()\n\twatch()\n}\n",
		"shared/shared.go": "package shared\n", "tests/testdata/load/main.go": "func load() {}\n",
		"tests/own_test.go": "func own() {}\n",
	})
	commands := "```sh\n" + strings.Join(outside, "\n") + "\n```\n\n"
	for _, c := range []struct{ name, page, err string }{
		{"run by the page", commands + "`go run ./02-put`\n\n```console\n$ go run ./02-put -v\n```", ""},
		{"over two lines", commands + "`go run\n./02-put`\n\n```console\n$ go run ./02-put\n```", ""},
		{"no command", commands + "`go` and `etcd now`", ""},
		{"code of a lesson", commands + "```go\nget()\nwatch()\n```", ""},
		{"code of shared", commands + "```go\npackage shared\n```", ""},
		{"code of a program of the tests", commands + "```go\nfunc load() {}\n```", ""},

		{"mentioned alone", commands + "`go run ./02-put`", "no transcript runs it"},
		{"another command outside", commands + "```sh\nrm -r .\n```", "outside of transcripts"},
		{"a command outside is missing", "```sh\ncd etcd-by-example\n```", "outside of transcripts"},
		{"code with a gap", commands + "```go\nfunc run() {\n\twatch()\n```", "in no lesson"},
		{"code of a test", commands + "```go\nfunc own() {}\n```", "in no lesson"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := transcript.Parse([]byte(c.page + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			harness.Refused(t, errors.Join(checkCommands([]*transcript.Page{p}), checkSnippets(p, root)), c.err)
		})
	}
}

// TestLinksCanFail follows links that are right, and links that are not.
func TestLinksCanFail(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{
		"README.md": "# A page\n", "main.go": "package main\n", "docs/PROOF.md": "## Twice\n\n## Twice\n",
	})
	for _, c := range []struct{ name, page, link, err string }{
		{"a file", "README.md", "[a](main.go)", ""},
		{"a folder", "README.md", "[a](docs)", ""},
		{"from a folder", "docs/PROOF.md", "[a](../main.go)", ""},
		{"a page's heading", "docs/PROOF.md", "[a](../README.md#a-page)", ""},
		{"a repeated heading", "README.md", "[a](docs/PROOF.md#twice-1)", ""},
		{"its own heading", "README.md", "## What `it` is, 1.2: \"a_b-c\"…\n\n[a](#what-it-is-12-a_b-c)", ""},
		{"elsewhere", "README.md", "[a](https://etcd.io/nowhere#none) <https://etcd.io>", ""},
		{"an image", "README.md", "![Two people, and a lock between them](main.go)", ""},
		{"folded", "README.md", "<details>\n<summary>Why?</summary>\n\n[a](main.go)\n\n</details>", ""},

		{"no such file", "README.md", "[a](man.go)", "no such file"},
		{"from another folder", "docs/PROOF.md", "[a](main.go)", "no such file"},
		{"no such heading", "README.md", "[a](#a-page)", "no such heading"},
		{"no such heading there", "README.md", "[a](docs/PROOF.md#twice-2)", "no such heading"},
		{"a line", "README.md", "[a](main.go#L1)", "only pages have headings"},
		{"outside", "docs/PROOF.md", "[a](../../etcd)", "out of the repository"},
		{"from the root", "README.md", "[a](/main.go)", "out of the repository"},
		{"by reference", "README.md", "[a][b]\n\n[b]: man.go", "no such file"},
		{"folded, to nowhere", "README.md", "<details>\n\n[a](man.go)\n\n</details>", "no such file"},
		{"an image that is not there", "README.md", "![Two people, and a lock between them](lock.svg)", "no such file"},
		{"an image without words", "README.md", "![a lock](main.go)", "is described by"},
		{"an HTML block", "README.md", "<p>\n<a href=\"main.go\">a</a>\n</p>", "in HTML"},
		{"HTML in a line", "README.md", "See <img src=\"main.go\">.", "in HTML"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := transcript.Parse([]byte(c.link + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			p.Name = c.page
			harness.Refused(t, checkLinks(p, root), c.err)
		})
	}
}

func writeFiles(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
