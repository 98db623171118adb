//go:build unix

package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/workbook"
	"example.com/etcd-by-example/tests/internal/harness"
)

// desk is a repository of which only the exercises are there, so that the developer's
// own copies stay as they are.
type desk struct {
	t          *testing.T
	root, tmp  string
	env        []string // further variables
	processors int
}

// newDesk returns one at which checks have the places for members that they need.
func newDesk(t *testing.T) *desk {
	t.Helper()
	etcdtest.Reserve(t, 3) // As many as a check on one processor has.
	return openDesk(t)
}

func openDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, root: t.TempDir(), tmp: t.TempDir(), processors: 1}
	for _, module := range []string{"exercises", "shared"} {
		etcdtest.NoError(t, os.CopyFS(filepath.Join(d.root, module), os.DirFS(filepath.Join(harness.Root, module))))
	}
	d.write("go.work", "go 1.26.0\n\nuse (\n\t./exercises\n\t./shared\n)\n")
	// git says nothing of it, as of a clone that belongs to another user.
	etcdtest.NoError(t, os.Mkdir(filepath.Join(d.root, ".git"), 0o755))
	return d
}

func (d *desk) read(name string) string {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.root, name))
	etcdtest.NoError(d.t, err)
	return string(text)
}

func (d *desk) write(name, text string) {
	d.t.Helper()
	etcdtest.NoError(d.t, os.WriteFile(filepath.Join(d.root, name), []byte(text), 0o644))
}

// start starts the classroom with arguments, with temporary files in a folder of its own.
func (d *desk) start(args ...string) *harness.Running {
	d.t.Helper()
	cmd := exec.Command(harness.Program(d.t, "classroom"), args...)
	cmd.Dir = d.root
	// The last two would be the programs' own affair, and are kept from them.
	cmd.Env = append(harness.Env(fmt.Sprint("GOMAXPROCS=", d.processors), "TMPDIR="+d.tmp, "GOWORK=", "GOFLAGS=-buildvcs=auto",
		"ETCD_NAMESPACE=/class/ann", "ETCDCTL_USER=ann:secret"), d.env...)
	return harness.Command(d.t, cmd)
}

// run runs the classroom to its end, which has to have a status, and returns what it
// printed.
func (d *desk) run(status int, args ...string) string {
	d.t.Helper()
	got := d.start(args...).Wait(d.t)
	if got.Status != status {
		d.t.Errorf("classroom %s: status %d, not %d", strings.Join(args, " "), got.Status, status)
	}
	return got.Stdout + got.Stderr
}

// nothingLeft fails the test when checks have left temporary files.
func (d *desk) nothingLeft() {
	d.t.Helper()
	harness.NothingLeft(d.t, d.tmp)
}

func (d *desk) want(text string, words ...string) {
	d.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			d.t.Errorf("it does not say %q:\n%s", w, text)
		}
	}
}

// TestCheckCommand hands out an exercise, and has it refused, and another one pass.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.want(d.run(0, "check"), "→ 01-connect\n· 02-put\n", "0 of 9 passed\n", "next: go run ./classroom check start 01\n")
	d.want(d.run(2, "check", "02"), "go run ./classroom check start 02")
	d.want(d.run(2, "check", "reset", "02"), "there is no copy of it yet")
	d.want(d.run(2, "check", "solution", "02"), "there is no copy of it yet")
	d.want(d.run(2, "check", "10"), "no exercise \"10\"")
	d.want(d.run(2, "check", "start"), "usage: classroom check start NUMBER")
	d.want(d.run(2, "check", "-colour"), "unknown shorthand flag")
	d.want(d.run(0, "check", "start", "02"), "Your copy is my/02-put/main.go\n")
	d.want(d.run(0, "check", "start", "2"), "You have a copy: my/02-put/main.go\n")
	d.want(d.read("my/02-put/main.go"), "go -C my run ./02-put -id ann")

	// Refused, with a picture of it.
	d.want(d.run(1, "check", "02", "-v"), "✓ start, ", "revision 1: There was no key /visits.\n",
		"✗ empty, ", "  $ 02-put -id ann\n    stderr: ", "panic: runtime error",
		"02-put is refused in the round \"empty\", 2 of 9:\n\nThere was no key /visits. ann was counted at revision 2, but then the program\n",
		"at main.go:",
		"go run ./classroom draw my/02-put/refused.history -o my/02.svg\n", "go run ./classroom check hint 02\n")
	d.want(d.run(0, "check"), "02-put  empty\n")
	d.want(d.run(0, "draw", "my/02-put/refused.history"), "<svg ", "ann was counted at revision 2, ")

	// Hints, in turn.
	d.want(d.run(0, "check", "hint", "02"), "Hint 1 of 3:\n\nThere are three bugs.")
	d.want(d.run(0, "check", "hint", "02"), "Hint 2 of 3:\n")
	d.want(d.run(0, "check", "hint", "02"), "Hint 3 of 3:\n")
	d.want(d.run(0, "check", "hint", "02"), "Hint 1 of 3:\n")

	// Another one, mended.
	d.run(0, "check", "start", "04")
	d.write("my/04-delete/main.go", d.read("exercises/solutions/04-delete/main.go"))
	d.want(d.run(0, "check", "04"), "✓ 04-delete: passed ")
	d.want(d.run(0, "check"), "✓ 04-delete\n", "1 of 9 passed\n")
	d.nothingLeft()
}

// TestCheckTellsGoFromTheProgram has Go fail for reasons that are in the program, and for
// others.
func TestCheckTellsGoFromTheProgram(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.run(0, "check", "start", "02")
	given := d.read("my/02-put/main.go")
	full := filepath.Join(d.root, "full")
	etcdtest.NoError(t, os.WriteFile(full, nil, 0o644)) // No folder can be made below a file.
	for _, c := range []struct {
		about, env, says string
	}{
		{"a flag for another mode", "GOFLAGS=-mod=mod", "go: -mod may only be set to readonly or vendor"},
		{"no vendored modules", "GOFLAGS=-mod=vendor", "go: inconsistent vendoring in " + d.root},
		{"no modules at all", "GO111MODULE=off", "cannot find package \"example.com/etcd-by-example/shared\" in any of: "},
		{"modules that are not there", "GOMODCACHE=" + t.TempDir(), "module lookup disabled by GOPROXY=off"},
		{"no folder for its files", "GOTMPDIR=" + full, "not a directory"},
		{"another Go, which is not there", "GOTOOLCHAIN=go1.99.0", "toolchain not available"},
		{"no cache", "GOCACHE=" + full, "not a directory"},
	} {
		d.env = []string{"GOPROXY=off", c.env}
		said := d.run(3, "check", "02")
		d.want(said, "classroom: no program builds here, which says nothing of yours: ", c.says, "go env -changed")
		if strings.Count(said, "\n") != 1 {
			t.Errorf("%s: it is not one line:\n%s", c.about, said)
		}
	}
	var all []workbook.Verdict
	etcdtest.NoError(t, json.Unmarshal([]byte(d.run(3, "check", "all", "-json")), &all))
	if all[0].Reason != workbook.NotStarted || all[1].Reason != workbook.GoFailed || !strings.Contains(all[1].Text, "go env -changed") {
		t.Errorf("as JSON: %+v", all[:2])
	}
	d.env = nil
	for i, c := range []struct{ old, new, says string }{
		{"err := visit(", "er := visit(", "02-put/main.go:"},
		{"func main()", "func begin()", "function main is undeclared"},
		{"func main()", "func main(", "02-put/main.go:"},
		{"import (", "import (\n\t_ \"fnt\"", "02-put/main.go:"},
		{"\npackage main", "\npackage put", "no main packages"},
		{"// ", "//go:build ignore\n\n// ", "build constraints exclude all Go files"},
	} {
		if i > 1 && !etcdtest.Long() {
			break // A program is linked for each.
		}
		d.write("my/02-put/main.go", strings.Replace(given, c.old, c.new, 1))
		d.want(d.run(2, "check", "02"), "02-put does not compile:\n", c.says)
	}
	d.want(d.run(0, "check"), "  does not compile\n")
}

// TestCheckKeepsTheModule hands out copies to a learner who has a library of their own.
func TestCheckKeepsTheModule(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.run(0, "check", "start", "02")
	given := map[string]string{}
	for _, name := range []string{"go.mod", "go.work", "go.sum"} {
		given[name] = d.read("my/" + name)
	}
	sum, rest, _ := strings.Cut(given["go.sum"], "\n")
	theirs := map[string]string{
		"go.mod":  given["go.mod"] + "\nrequire example.com/library v1.2.3 // indirect\n",
		"go.work": given["go.work"] + "\nuse ./library\n",
		"go.sum":  rest + "example.com/library v1.2.3 h1:their=\n",
	}
	want := map[string]string{"go.mod": theirs["go.mod"], "go.work": theirs["go.work"], "go.sum": theirs["go.sum"] + sum + "\n"}
	for _, before := range []string{"go 1.26.0", "go 1.25.3", "go 1.99.0"} {
		for name, text := range theirs {
			d.write("my/"+name, strings.Replace(text, "go 1.26.0", before, 1))
		}
		d.run(0, "check", "start", "03")
		d.run(0, "check", "reset", "02")
		for name, text := range want {
			if before == "go 1.99.0" {
				text = strings.Replace(text, "go 1.26.0", before, 1)
			}
			if got := d.read("my/" + name); got != text {
				t.Errorf("with %s, %s is\n%s\nwant\n%s", before, name, got, text)
			}
		}
	}
}

// TestCheckPasses does with the exercise what a learner does until it has passed.
func TestCheckPasses(t *testing.T) {
	etcdtest.NeedsLong(t, "it checks a program again and again")
	t.Parallel()
	d := newDesk(t)
	d.run(0, "check", "start", "02")
	vet := exec.Command("go", "vet", "./...")
	vet.Dir, vet.Env = filepath.Join(d.root, "my"), harness.Env("GOWORK=")
	if output, err := vet.CombinedOutput(); err != nil {
		t.Errorf("go vet in my: %v\n%s", err, output)
	}
	var v workbook.Verdict
	etcdtest.NoError(t, json.Unmarshal([]byte(d.run(1, "check", "02", "-json")), &v))
	if v.Exercise != "02-put" || v.Passed || v.Reason != "empty" || v.Seconds <= 0 || v.History != "my/02-put/refused.history" {
		t.Errorf("as JSON: %+v", v)
	}

	// What does not compile.
	d.write("my/02-put/main.go", strings.Replace(d.read("my/02-put/main.go"), "err := visit(", "er := visit(", 1))
	d.want(d.run(2, "check", "02"), "02-put does not compile:\n", "02-put/main.go:")
	d.want(d.run(0, "check", "reset", "02"), "my/02-put/main.go is fresh; the old one is my/02-put/main.go.1\n")
	d.want(d.read("my/02-put/main.go.1"), "er := visit(")
	d.want(d.read("my/02-put/main.go"), "err := visit(")

	// The solution passes, for as long as it stays what it is.
	d.want(d.run(2, "check", "solution", "02"), "your program has not passed yet: try a hint, or add -give-up")
	d.want(d.run(0, "check", "solution", "02", "-give-up"), "my/02-put/solution/main.go")
	solution := d.read("my/02-put/solution/main.go")
	d.write("my/02-put/main.go", solution)
	d.want(d.run(0, "check", "02"), "✓ 02-put: passed 9 rounds in ")
	d.want(d.run(0, "check"), "✓ 02-put\n", "1 of 9 passed\n")
	d.want(d.run(1, "draw", v.History), "no such file")
	d.run(0, "check", "solution", "02")
	d.write("my/02-put/main.go", solution+"\n// Once more.\n")
	d.want(d.run(0, "check"), "0 of 9 passed\n")
	var all []workbook.Verdict
	etcdtest.NoError(t, json.Unmarshal([]byte(d.run(2, "check", "all", "-json")), &all))
	if len(all) != 9 || !all[1].Passed || all[0].Reason != workbook.NotStarted {
		t.Errorf("all, as JSON: %+v", all)
	}
	d.nothingLeft()
	etcdtest.NoError(t, os.Remove(d.tmp))
	d.want(d.run(3, "check", "02"), "the judge failed, which says nothing of your program")
}

// TestCheckWhereProgramsMayNotRun has temporary files where no program may run, and Go put
// what it builds elsewhere.
func TestCheckWhereProgramsMayNotRun(t *testing.T) {
	etcdtest.NeedsLong(t, "a whole check")
	if err := mayMount(); err != nil {
		etcdtest.SkipUnlessCI(t, err)
	}
	t.Parallel()
	d := newDesk(t)
	d.tmp = mountDisk(t, "size=1g,noexec")
	d.run(0, "check", "start", "02")
	d.want(d.run(3, "check", "02"), "permission denied: set GOTMPDIR to a folder from which programs may run\n")
	d.nothingLeft()
	programs := t.TempDir()
	d.env = []string{"GOTMPDIR=" + programs}
	d.want(d.run(1, "check", "02"), "02-put is refused in the round \"empty\"")
	d.nothingLeft()
	harness.NothingLeft(t, programs)
}

// TestCheckInterrupted ends a check in its middle.
func TestCheckInterrupted(t *testing.T) {
	etcdtest.NeedsLong(t, "a whole check")
	t.Parallel()
	d := newDesk(t)
	d.run(0, "check", "start", "02")
	checking := d.start("check", "02")
	etcdtest.Eventually(t, "an etcd runs", func() bool {
		members, err := filepath.Glob(filepath.Join(d.tmp, "classroom-*", "etcd1.log"))
		return err == nil && len(members) > 0
	})
	harness.Interrupt(t, checking)
	checking.Wait(t).Want(t, 3, "", "classroom: interrupted\n")
	d.nothingLeft()
}

// TestCheckWatch saves a file while a check watches for that.
func TestCheckWatch(t *testing.T) {
	etcdtest.NeedsLong(t, "two checks")
	t.Parallel()
	d := newDesk(t)
	d.run(0, "check", "start", "02")
	watching := d.start("check", "-watch")
	watching.Await(t, "02-put is refused in the round")
	d.write("my/02-put/main.go", d.read("exercises/solutions/02-put/main.go"))
	watching.Await(t, "✓ 02-put: passed")
	harness.Interrupt(t, watching)
	watching.Wait(t).Want(t, 0, "", "")
}
