package tests

import (
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// ours is how the import paths of the repository's packages begin.
const ours = "example.com/etcd-by-example/"

// TestImports holds who may know whom: each package imports, by any way, no
// packages of ours but those named.
func TestImports(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string][]string{
		"classroom/history": {},
		"classroom/drawing": {"classroom/history"},
		"classroom/judge":   {"classroom/history"},
		"classroom/cluster": {"classroom/ports", "classroom/process", "classroom/tempdir"},
		"classroom/course":  {"classroom/process"},
		"classroom/relay":   {"classroom/ports", "classroom/rpc"},
		"classroom/class": {"classroom/cluster", "classroom/history", "classroom/ports",
			"classroom/process", "classroom/rpc", "classroom/tempdir"},
		"shared":          {"shared/diagnose"},
		"shared/diagnose": {},
		"classroom/check": {"classroom/cluster", "classroom/history", "classroom/judge", "classroom/relay",
			"classroom/ports", "classroom/process", "classroom/rpc", "classroom/tempdir"},
		"classroom/workbook": {"classroom/check", "classroom/cluster", "classroom/course", "classroom/history", "classroom/judge",
			"classroom/relay", "classroom/ports", "classroom/process", "classroom/rpc", "classroom/tempdir"},
		"classroom/etcdtest": {"classroom/cluster", "classroom/ports", "classroom/process", "classroom/tempdir"},

		"tests/internal/harness": {"classroom/cluster", "classroom/course", "classroom/etcdtest", "classroom/ports",
			"classroom/process", "classroom/tempdir"},
	} {
		there := packages(t)[ours+name]
		for _, imported := range there.Deps {
			if other, found := strings.CutPrefix(imported, ours); found && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s", name, other)
			}
		}
		if len(there.Deps) == 0 {
			t.Errorf("there is no %s", name)
		}
	}
}

// imports are those of a package: its own, and all that these lead to.
type imports struct{ Imports, Deps []string }

// packages returns what the packages of ours import, by their paths.
func packages(t *testing.T) map[string]imports {
	t.Helper()
	output, err := listed()
	etcdtest.NoError(t, err)
	all := map[string]imports{}
	for line := range strings.Lines(string(output)) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		all[fields[0]] = imports{strings.Fields(fields[1]), strings.Fields(fields[2])}
	}
	return all
}

var listed = sync.OnceValues(func() ([]byte, error) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}|{{join .Imports " "}}|{{join .Deps " "}}`,
		"./classroom/...", "./shared/...", "./tests/internal/...")
	list.Dir = harness.Root
	return list.Output()
})

// TestMarkup checks that only packages which make pages and pictures know how to.
func TestMarkup(t *testing.T) {
	t.Parallel()
	makers := []string{"classroom/board", "classroom/course", "classroom/drawing"}
	found := 0
	for path, one := range packages(t) {
		name := strings.TrimPrefix(path, ours)
		if !slices.Contains(one.Imports, "html/template") {
			continue
		}
		if found++; !slices.Contains(makers, name) {
			t.Errorf("%s imports html/template", name)
		}
	}
	if found == 0 {
		t.Error("no package makes a page")
	}
}

// TestJudgeAsksNobody holds that judge has nothing with which it could ask an etcd:
// besides history, it imports the standard library alone, and nothing of a network.
func TestJudgeAsksNobody(t *testing.T) {
	t.Parallel()
	for _, imported := range packages(t)[ours+"classroom/judge"].Imports {
		first, _, _ := strings.Cut(imported, "/")
		foreign := strings.Contains(first, ".") && imported != "example.com/etcd-by-example/classroom/history"
		if foreign || first == "net" || first == "os" || first == "syscall" {
			t.Errorf("judge imports %s", imported)
		}
	}
}
