package tests

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/etcd-by-example/tests/internal/harness"
)

// ours is how the import paths of the repository's packages begin.
const ours = "example.com/etcd-by-example/"

// TestImports holds who may know whom: each package imports, by any way, no
// packages of ours but those named.
func TestImports(t *testing.T) {
	harness.Parallel(t)
	for name, allowed := range map[string][]string{
		"classroom/history": {},
		"classroom/drawing": {"classroom/history"},
		"classroom/judge":   {"classroom/history"},
		"classroom/cluster": {"classroom/ports", "classroom/process", "classroom/tempdir"},
		"classroom/course":  {"classroom/process"},
		"classroom/relay":   {"classroom/ports", "classroom/rpc"},
		"classroom/class": {"classroom/cluster", "classroom/history", "classroom/ports",
			"classroom/process", "classroom/rpc", "classroom/tempdir"},
		"shared": {},
		"classroom/check": {"classroom/cluster", "classroom/history", "classroom/judge", "classroom/relay",
			"classroom/ports", "classroom/process", "classroom/rpc", "classroom/tempdir"},
		"classroom/workbook": {"classroom/check", "classroom/cluster", "classroom/history", "classroom/judge",
			"classroom/relay", "classroom/ports", "classroom/process", "classroom/rpc", "classroom/tempdir"},

		"tests/internal/harness": {"classroom/cluster", "classroom/ports", "classroom/process", "classroom/tempdir"},
	} {
		list := exec.Command("go", "list", "-deps", "./"+name)
		list.Dir = harness.Root
		output, err := list.Output()
		if err != nil {
			t.Fatalf("list what %s imports: %v", name, err)
		}
		known := map[string]bool{name: true}
		for _, other := range allowed {
			known[other] = true
		}
		for _, imported := range strings.Fields(string(output)) {
			if other, found := strings.CutPrefix(imported, ours); found && !known[other] {
				t.Errorf("%s imports %s", name, other)
			}
		}
	}
}

// TestMarkup checks that only packages which make pages and pictures know how to.
func TestMarkup(t *testing.T) {
	harness.Parallel(t)
	makers := []string{"classroom/board", "classroom/course", "classroom/drawing"}
	list := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...")
	list.Dir = filepath.Join(harness.Root, "classroom")
	output, err := list.Output()
	if err != nil {
		t.Fatalf("list what the packages of classroom import: %v", err)
	}
	found := 0
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], ours)
		if !slices.Contains(fields[1:], "html/template") {
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
	harness.Parallel(t)
	list := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "./classroom/judge")
	list.Dir = harness.Root
	output, err := list.Output()
	if err != nil {
		t.Fatalf("list what judge imports: %v", err)
	}
	for _, imported := range strings.Fields(string(output)) {
		first, _, _ := strings.Cut(imported, "/")
		foreign := strings.Contains(first, ".") && imported != "example.com/etcd-by-example/classroom/history"
		if foreign || first == "net" || first == "os" || first == "syscall" {
			t.Errorf("judge imports %s", imported)
		}
	}
}
