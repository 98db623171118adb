package tests

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/etcd-by-example/tests/internal/harness"
)

// written is a test as its file has it.
type written struct {
	notEverywhere bool // its file is not built on Windows
	long          bool // it does nothing without -long
}

// TestTestsAreListed holds tests/README.md and .ci/run to the tests that there are.
func TestTestsAreListed(t *testing.T) {
	all, err := findTests(filepath.Join(harness.Root, "tests"))
	harness.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(harness.Root, "tests", "README.md"))
	harness.NoError(t, err)
	ci, err := os.ReadFile(filepath.Join(harness.Root, ".ci", "run"))
	harness.NoError(t, err)
	if err := errors.Join(checkList(string(page), all), checkPattern(string(ci), all)); err != nil {
		t.Error(err)
	}
}

// findTests returns the tests below a folder. It refuses a file whose name does not say
// what it is about, and a test that is skipped in a way of which nobody hears.
func findTests(folder string) (map[string]written, error) {
	kind := regexp.MustCompile(`^(readme|lesson|exercise|fault|proof|board|classroom|docker)_|^main_test\.go$`)
	all := map[string]written{}
	var wrong []error
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == "testdata" || entry.Name() == "harness":
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		if filepath.Dir(path) == folder && !kind.MatchString(entry.Name()) {
			wrong = append(wrong, fmt.Errorf("%s begins with no kind of test", entry.Name()))
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		var test written
		test.notEverywhere = strings.HasSuffix(path, "_linux_test.go")
		for _, group := range file.Comments {
			for _, line := range group.List {
				test.notEverywhere = test.notEverywhere || strings.HasPrefix(line.Text, "//go:build ")
			}
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			long := false
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				from, _ := call.X.(*ast.Ident)
				ofHarness := from != nil && from.Name == "harness"
				switch call.Sel.Name {
				case "NeedsLong":
					long = true
				case "Skip", "Skipf", "SkipNow":
					if !ofHarness {
						wrong = append(wrong, fmt.Errorf("%s: %s skips, and .ci/run does not hear of it", entry.Name(), f.Name.Name))
					}
				}
				return true
			})
			name := f.Name.Name
			if strings.HasPrefix(name, "Test") && name != "TestMain" && f.Recv == nil {
				all[name] = written{test.notEverywhere, long}
			}
		}
		return nil
	})
	return all, errors.Join(append(wrong, err)...)
}

// checkList refuses a page whose table does not name each test, names one that is not
// there, or does not say what is skipped for all to see in its code.
func checkList(page string, all map[string]written) error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	named := map[string]bool{}
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for _, name := range regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(cells[2], -1) {
			test, found := all[name[1]]
			switch {
			case !found:
				refuse("there is no %s", name[1])
			case named[name[1]]:
				refuse("%s is named twice", name[1])
			}
			named[name[1]] = true
			if says := strings.Contains(strings.ToLower(cells[3]), "not on windows"); says != test.notEverywhere {
				refuse("%s: not on Windows? %v, and the page says %v", name[1], test.notEverywhere, says)
			}
			if says := strings.Contains(cells[3], "Without `-long`"); says != test.long {
				refuse("%s: not without -long? %v, and the page says %v", name[1], test.long, says)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !named[name] {
			refuse("%s is not named", name)
		}
	}
	return errors.Join(wrong...)
}

// checkPattern refuses a second run of CI that has words which match no test, or leaves
// out a test that was skipped in the first.
func checkPattern(ci string, all map[string]written) error {
	found := regexp.MustCompile(`-long -run '([^']+)'`).FindStringSubmatch(ci)
	if found == nil {
		return errors.New("there is no run with -long")
	}
	var wrong []error
	matched := map[string]bool{}
	for word := range strings.SplitSeq(found[1], "|") {
		matches := 0
		for name := range all {
			if strings.Contains(name, word) {
				matches++
				matched[name] = true
			}
		}
		if matches == 0 {
			wrong = append(wrong, fmt.Errorf("-run %s matches no test", word))
		}
	}
	for name, test := range all {
		if test.long && !matched[name] {
			wrong = append(wrong, fmt.Errorf("%s is in no run of CI", name))
		}
	}
	return errors.Join(wrong...)
}

// TestListCanFail has folders, pages and patterns refused for one thing each.
func TestListCanFail(t *testing.T) {
	for _, c := range []struct{ name, file, content, page, ci, err string }{
		{"right", "lesson_a_test.go", "func TestA() {}", "| a | `TestA` | |", "Test", ""},
		{"not everywhere", "fault_a_linux_test.go", "func TestA() {}", "| a | `TestA` | Not on Windows. |", "A", ""},
		{"only long", "proof_a_test.go", "func TestA() { harness.NeedsLong() }", "| a | `TestA` | Without `-long`. |", "A|Test", ""},

		{"no kind", "a_test.go", "func TestA() {}", "| a | `TestA` | |", "A", "no kind"},
		{"not named", "lesson_a_test.go", "func TestA() {}", "TestA", "A", "not named"},
		{"not there", "lesson_a_test.go", "func TestA() {}", "| a | `TestA`, `TestB` | |", "A", "there is no TestB"},
		{"named twice", "lesson_a_test.go", "func TestA() {}", "| a | `TestA`, `TestA` | |", "A", "twice"},
		{"a secret skip", "lesson_a_test.go", "func TestA() { t.Skipf() }", "| a | `TestA` | |", "A", "does not hear"},
		{"not said: Windows", "fault_a_linux_test.go", "func TestA() {}", "| a | `TestA` | |", "A", "not on Windows? true"},
		{"not so: Windows", "fault_a_test.go", "func TestA() {}", "| a | `TestA` | Not on Windows. |", "A", "not on Windows? false"},
		{"not said: -long", "proof_a_test.go", "func TestA() { harness.NeedsLong() }", "| a | `TestA` | |", "A", "-long? true"},
		{"in no run", "proof_a_test.go", "func TestA() { harness.NeedsLong() }\n\nfunc TestB() {}",
			"| a | `TestA` | Without `-long`. |\n| b | `TestB` | |", "B", "in no run"},
		{"a word of no test", "lesson_a_test.go", "func TestA() {}", "| a | `TestA` | |", "A|Gone", "matches no test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			writeFiles(t, folder, map[string]string{c.file: "package tests\n\n" + c.content + "\n"})
			all, err := findTests(folder)
			harness.Refused(t, errors.Join(err, checkList(c.page+"\n", all), checkPattern("-long -run '"+c.ci+"'", all)), c.err)
		})
	}
}
