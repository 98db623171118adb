//go:build unix

package transcript

import (
	"context"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
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
		{"a countdown, a number skipped", console("$ printf '2 left\\n0 left\\n-1\\n'", "<2> left", "<1> left", "<0> left", "-1"), ""},
		{"a countdown, a number twice", console("$ printf '2 left\\n1 left\\n0 left\\n0 left\\n-1\\n'", "<2> left", "<1> left", "<0> left", "-1"), ""},
		{"a countdown without end", console("$ printf '5 left\\n4 left\\n3 left\\n2 left\\n1 left\\n0 left\\n-1\\n'", "<2> left", "<1> left", "<0> left", "-1"), "shown:"},
		{"no countdown", console("$ echo -1", "<2> left", "<1> left", "<0> left", "-1"), "shown:"},
		{"Compose", console("$ printf '1\\n2\\n3\\n'", "<what Compose reports>", "3"), ""},
		{"two join codes", console("$ echo 0123-ABCD-WXYZ-7890; echo 0000-0000-0000-0000", "<code>", "<code>",
			"$ echo <code> | cut -c 1-4", "0000"), ""},
		{"a section has its own terminals", "## a\n\n" + console("$ x=5", "$ echo $x", "5") +
			"\n### b\n\n" + console("$ echo $x", "5") +
			"\n## c\n\n" + console("$ echo ${x:-none}", "none"), ""},
		{"etcd runs in Terminal 1", console("$ echo a", "a") +
			"\n**Terminal 1**\n\n" + console("^C", "etcd has stopped."), "shown, but not printed"},

		{"a wrong line", console("$ printf 'a\\nb\\n'", "a", "c"), `shown:   "c"`},
		{"the last line missing", console("$ printf 'a\\nb\\n'", "a"), `printed, but not shown: "b"`},
		{"one line too many", console("$ echo a", "a", "b"), `shown, but not printed: "b"`},
		{"nothing shown", console("$ echo a", "$ echo b", "b"), `printed, but not shown: "a"`},
		{"an ID that is none", console("$ echo lease 0123 ok", "lease <ID> ok"), "shown:"},
		{"a join code that nobody knows", console("$ echo <code>", "<code>"), "no <code> was printed"},
		{"dots are dots", console("$ echo a-c", "a.c"), "shown:"},
		{"after ^C", console(`$ bash -c 'trap "echo b; exit" INT; echo a; while sleep .1; do :; done'`, "a", "^C"), "printed, but not shown"},

		{"after go", console("$ printf 'go: a\\nb\\n'", "<what go reports>"), `printed: "b"`},
		{"not etcd's log", console("$ echo a", "<what etcd logs>"), `printed: "a"`},
		{"said of a silent command", console("$ echo a; read line") + "\n**Terminal 3**\n\n" + console("$ echo a", "a") +
			"\n**Terminal 2**\n\n" + console("b"), `printed, but not shown: "a"`},
		{"a silent command that ends", console("$ cd .") + "\n**Terminal 3**\n\n" + console("$ echo a", "a") +
			"\n**Terminal 2**\n\n" + console("b"), "the command has ended"},

		{"a block that expects nothing", console("$ echo a"), "a block that expects nothing"},
		{"a folder that stays", console("$ mkdir /tmp/a && echo b", "b"), "make it in ~"},
		{"an empty block", "```console\n```\n", "an empty block"},
		{"an unknown language", "```bash\necho a\n```\n", `marked "bash"`},
		{"an indented block", "a\n\n    $ echo a\n    b\n", "an indented block"},
		{"an unknown marker", "<!-- dcoker -->\n" + console("$ echo a", "a"), "unknown marker"},
		{"a marker above nothing", "<!-- docker -->\n\ntext\n\n" + console("$ echo a", "a"), "a marker that is not above"},
		{"an unknown placeholder", console("$ echo a", "<anything>"), "unknown placeholder"},
		{"many lines, and more later", console("$ echo a; sleep 1; echo b", "<what go reports>") +
			"\n**Terminal 2**\n\n" + console("b"), "nobody knows"},
		{"an unformatted program", "```go\npackage main\nfunc main() {\n}\n```\n", "gofmt"},
		{"an unknown label", "**Terminal two**\n\n" + console("$ echo a", "a"), "unknown label"},
		{"output of nothing", console("a"), "nothing runs in"},
		{"output of an earlier session", console("$ echo a; sleep 1; echo b", "a") +
			"\n<!-- docker -->\n" + console("b"), "nothing runs in"},
		{"a key after etcd was started anew", "**Terminal 3**\n\n" + console("$ sleep 60", "a") +
			"\n" + console("$ go run ./classroom -members 3", "a") +
			"\n**Terminal 3**\n\n" + console("^C", "a"), "nothing runs in"},
		{"a command where etcd runs", "**Terminal 1**\n\n" + console("$ go run ./classroom member list", "a"), "etcd runs in"},
		{"a block in a list", "- a\n\n  ```console\n  $ echo a\n  b\n  ```\n", "inside a list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			etcdtest.Refused(t, playPage(t, c.page), c.err)
		})
	}
}

// TestSessionsHaveAnEtcd plays two sections that take it that an etcd runs.
func TestSessionsHaveAnEtcd(t *testing.T) {
	t.Parallel()
	p, err := Parse([]byte("## one\n\n```console\n$ go tool etcdctl put a b\nOK\n```\n\n" +
		"## two\n\n```console\n$ go tool etcdctl get -w fields a | grep -e Rev -e Count\n" +
		"\"Revision\" : 1\n\"Count\" : 0\n```\n\n**Terminal 1**\n\n```console\n^C\netcd has stopped.\n```\n"))
	etcdtest.NoError(t, err)
	playSessions(t, p)
}

// TestMachines plays a section in which Ann has a machine of her own: it is not the one
// with the etcd, and a class on that one is reached from it.
func TestMachines(t *testing.T) {
	t.Parallel()
	p, err := Parse([]byte(`## Two machines

**Terminal 2**

~~~console
$ (: </dev/tcp/127.0.0.1/2379) && echo open
open
$ go run ./classroom reset
The store is empty, at revision 1.
~~~

**Ann's Terminal 1**

~~~console
$ (: </dev/tcp/127.0.0.1/2379) 2>/dev/null || echo closed
closed
$ (: </dev/tcp/192.168.1.5/2378) && echo open
open
$ go run ./classroom reset
classroom: reset: no classroom runs on port 2379: start it with go run ./classroom, or name its port with -port
exit status 1
$ touch ~/hers
~~~

**Ann's Terminal 2**

~~~console
$ ls ~ | grep hers
hers
~~~

**Terminal 2**

~~~console
$ ls ~ | grep -c hers
0
~~~
`))
	etcdtest.NoError(t, err)
	playSessions(t, p)
}

// TestTranscriptsAreRewritten checks what -update makes of a page of which one
// section is played, and another is played and fails.
func TestTranscriptsAreRewritten(t *testing.T) {
	before := "text\n\n```console\n$ echo 0123456789abcdef 0123-ABCD-WXYZ-7890\nold\n$ printf 'a\\nb\\n'\n" +
		"<what Compose reports>\nb\n$ echo left: 3\nleft: <2 1 0>\n```\n\nmore\n" +
		"## not played\n\n```console\n$ echo a\nnot a\n```\n" +
		"## fails\n\n```console\n$ echo a\nnot a\n$ exit\n```\n"
	want := strings.Replace(before, "old", "<ID> <code>", 1)
	p, err := Parse([]byte(before))
	etcdtest.NoError(t, err)
	player := &player{
		dir: harness.Root, machine: machine{harness.Env(), harness.Machine}, terminals: map[string]*terminal{},
		update: true,
	}
	defer player.close()
	sessions := p.Sessions()
	etcdtest.NoError(t, player.play(t.Context(), sessions[0][0]))
	if err := player.play(t.Context(), sessions[2][0]); err == nil {
		t.Fatal("the shell has ended, and nobody says so")
	}
	sessions[2].Forget()
	if got := string(p.Rewritten()); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// playSessions plays each session of a page, in terminals of its own.
func playSessions(t *testing.T, p *Page) {
	for _, session := range p.Sessions() {
		t.Run(session.Name(), func(t *testing.T) {
			Play(t, p, session)
		})
	}
}

// playPage does with a page what TestPages does with README.md.
func playPage(t *testing.T, text string) error {
	p, err := Parse([]byte(text))
	if err != nil {
		return err
	}
	if err := p.Check(); err != nil {
		return err
	}
	for _, session := range p.Sessions() {
		player := &player{
			dir: harness.Root, machine: machine{harness.Env(), harness.Machine}, terminals: map[string]*terminal{},
			watchers: func(context.Context) (int, error) { return 0, nil },
			healthy:  func(context.Context) bool { return false },
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
