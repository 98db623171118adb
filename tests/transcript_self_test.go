//go:build unix

package tests

import (
	"context"
	"strings"
	"testing"
)

// TestTranscriptsCanFail is the test of the test: pages that are right pass,
// and pages that are wrong in one place are refused, each for its reason.
func TestTranscriptsCanFail(t *testing.T) {
	t.Parallel()
	console := func(lines ...string) string {
		return "```console\n" + strings.Join(lines, "\n") + "\n```\n"
	}
	for _, c := range []struct {
		name, page string
		err        string // empty: the page is right
	}{
		{"right", console("$ printf 'a\\nb\\n'", "a", "b", "$ echo c", "c"), ""},
		{"a command of several lines", console("$ cat <<EOF", "> a", ">", "> b", "> EOF", "a", "", "b"), ""},
		{"no newline at the end", console("$ printf a", "a", "$ echo b", "b"), ""},
		{"a variable stays", console("$ x=5", "$ echo $x", "5"), ""},
		{"both outputs", console("$ echo a; echo b >&2", "a", "b"), ""},
		{"a lease ID", console("$ echo lease 0123456789abcdef ok", "lease <ID> ok"), ""},
		{"a countdown", console("$ echo left: 4 3 2 1 0", "left: <2 1 0>"), ""},
		{"Compose", console("$ printf '1\\n2\\n3\\n'", "<what Compose reports>", "3"), ""},
		{"interrupted", console(`$ bash -c 'trap "echo b; exit" INT; echo a; while sleep .1; do :; done'`, "a", "^C", "b"), ""},
		{"stopped and resumed", console("$ bash -c 'echo a; sleep 1; echo b'", "a", "^Z",
			"[1]+  Stopped                 bash -c 'echo a; sleep 1; echo b'",
			"$ fg", "bash -c 'echo a; sleep 1; echo b'", "b"), ""},
		{"two terminals", "**Terminal 3**\n\n" +
			console("$ echo ready; read line; echo $line", "ready") +
			"\n**Terminal 2**\n\n" + console("$ echo a", "a") +
			"\n**Terminal 3**\n\n" + console("^C"), "expects nothing"},
		{"a terminal goes on", "**Terminal 3**\n\n" +
			console("$ echo ready; sleep 1; echo done", "ready") +
			"\n**Terminal 2**\n\n" + console("$ echo a", "a") +
			"\n**Terminal 3**\n\n" + console("done"), ""},
		{"a session has its own terminals", console("$ x=5", "$ echo $x", "5") +
			"\n<!-- docker -->\n" + console("$ echo ${x:-none}", "none"), ""},

		{"a wrong line", console("$ printf 'a\\nb\\n'", "a", "c"), `shown:   "c"`},
		{"a missing line", console("$ printf 'a\\nb\\nc\\n'", "a", "c"), `shown:   "c"`},
		{"the last line missing", console("$ printf 'a\\nb\\n'", "a"), `printed, but not shown: "b"`},
		{"one line too many", console("$ echo a", "a", "b"), `shown, but not printed: "b"`},
		{"nothing shown", console("$ echo a", "$ echo b", "b"), `printed, but not shown: "a"`},
		{"an unknown command", console("$ no-such-command", "a"), `shown:   "a"`},
		{"an ID that is none", console("$ echo lease 0123 ok", "lease <ID> ok"), "shown:"},
		{"something after an ID", console("$ echo 0123456789abcdef ok", "<ID>"), "shown:"},
		{"dots are dots", console("$ echo a-c", "a.c"), "shown:"},
		{"blanks count", console("$ echo 'a  b'", "a b"), "shown:"},
		{"after ^C", console(`$ bash -c 'trap "echo b; exit" INT; echo a; while sleep .1; do :; done'`, "a", "^C"), "printed, but not shown"},
		{"after Compose", console("$ printf '1\\n2\\n'", "<what Compose reports>", "3"), `shown:   "3"`},

		{"a block that expects nothing", console("$ echo a"), "a block that expects nothing"},
		{"an empty block", "```console\n```\n", "an empty block"},
		{"an unknown language", "```bash\necho a\n```\n", `marked "bash"`},
		{"no language", "```\necho a\n```\n", `marked ""`},
		{"an indented block", "a\n\n    $ echo a\n    b\n", "an indented block"},
		{"an unknown marker", "<!-- dcoker -->\n" + console("$ echo a", "a"), "unknown marker"},
		{"a marker above nothing", "<!-- docker -->\n\ntext\n\n" + console("$ echo a", "a"), "a marker that is not above"},
		{"an unknown placeholder", console("$ echo a", "<anything>"), "unknown placeholder"},
		{"an unknown label", "**Terminal two**\n\n" + console("$ echo a", "a"), "unknown label"},
		{"output of nothing", console("a"), "nothing runs in"},
		{"output of an earlier session", console("$ echo a; sleep 1; echo b", "a") +
			"\n<!-- docker -->\n" + console("b"), "nothing runs in"},
		{"a key after etcd was started anew", "**Terminal 3**\n\n" + console("$ sleep 60", "a") +
			"\n" + console("$ go run ./classroom -members 3", "a") +
			"\n**Terminal 3**\n\n" + console("^C", "a"), "nothing runs in"},
		{"shown in a later session", console("$ sleep 60") +
			"\n<!-- docker -->\n" + console("$ echo a", "a"), "expects nothing"},
		{"a block in a list", "- a\n\n  ```console\n  $ echo a\n  b\n  ```\n", "inside a list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			err := playPage(t, c.page)
			switch {
			case c.err == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.err != "" && err == nil:
				t.Error("it passes")
			case c.err != "" && !strings.Contains(err.Error(), c.err):
				t.Errorf("refused for another reason than %q: %v", c.err, err)
			}
		})
	}
}

// TestTranscriptsAreRewritten checks what -update makes of a page.
func TestTranscriptsAreRewritten(t *testing.T) {
	before := "text\n\n```console\n$ echo 0123456789abcdef 1\nold\n$ printf 'a\\nb\\n'\n" +
		"<what Compose reports>\nb\n$ echo left: 3\nleft: <2 1 0>\n```\n\nmore\n"
	want := strings.Replace(before, "old", "<ID> 1", 1)
	p, err := parse([]byte(before))
	if err != nil {
		t.Fatal(err)
	}
	player := &player{
		dir: root, env: plainEnv(), network: machine, terminals: map[string]*terminal{},
		update: true,
	}
	defer player.close()
	for _, b := range p.blocks {
		if err := player.play(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(p.rewritten()); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// playPage does with a page what TestREADME does with README.md.
func playPage(t *testing.T, text string) error {
	p, err := parse([]byte(text))
	if err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	for _, session := range p.sessions() {
		player := &player{
			dir: root, env: plainEnv(), network: machine, terminals: map[string]*terminal{},
			watchers: func(context.Context) (int, error) { return 0, nil },
		}
		defer player.close()
		for _, b := range session {
			if err := player.play(t.Context(), b); err != nil {
				return err
			}
		}
	}
	return nil
}
