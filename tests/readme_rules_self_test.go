package tests

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/etcd-by-example/tests/internal/harness"
	"example.com/etcd-by-example/tests/internal/transcript"
)

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
			harness.NoError(t, err)
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
			harness.NoError(t, err)
			p.Name = c.page
			harness.Refused(t, checkLinks(p, root), c.err)
		})
	}
}

func writeFiles(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(root, name)
		harness.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		harness.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	}
}
