package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/version"

	"example.com/etcd-by-example/tests/internal/harness"
)

// TestOneEtcdVersion checks that the client, the server, etcdctl, the image and
// the README mean the same etcd.
func TestOneEtcdVersion(t *testing.T) {
	want := "v" + version.Version
	for _, mod := range modules(t) {
		for _, require := range mod.Require {
			if strings.HasPrefix(require.Path, "go.etcd.io/etcd/") && require.Version != want {
				t.Errorf("%s requires %s %s, want %s",
					mod.Module.Path, require.Path, require.Version, want)
			}
		}
	}
	tags := regexp.MustCompile(`quay\.io/coreos/etcd:([\w.-]+)`)
	for _, name := range []string{"docker-compose.yml", "README.md"} {
		text, err := os.ReadFile(filepath.Join(harness.Root, name))
		harness.NoError(t, err)
		found := tags.FindAllSubmatch(text, -1)
		if len(found) == 0 && name == "docker-compose.yml" {
			t.Errorf("%s names no image", name)
		}
		for _, tag := range found {
			if string(tag[1]) != want {
				t.Errorf("%s has the image tag %s, want %s", name, tag[1], want)
			}
		}
	}
}

// TestModules checks what holds for every module: one go line, no
// replace directive, and nothing but etcd's client in lessons and shared.
func TestModules(t *testing.T) {
	var work struct{ Go string }
	harness.GoJSON(t, &work, "work", "edit", "-json", filepath.Join(harness.Root, "go.work"))
	for _, mod := range modules(t) {
		name := filepath.Base(mod.Module.Path)
		if mod.Go != work.Go {
			t.Errorf("%s has go %s, go.work has go %s", name, mod.Go, work.Go)
		}
		if len(mod.Replace) > 0 {
			t.Errorf("%s has a replace directive", name)
		}
		if name == "classroom" || name == "tests" {
			continue
		}
		for _, require := range mod.Require {
			switch {
			case require.Indirect,
				require.Path == "go.etcd.io/etcd/client/v3",
				require.Path == "go.etcd.io/etcd/api/v3",
				name == "shared" && require.Path == "go.uber.org/zap":
			default:
				t.Errorf("%s requires %s", name, require.Path)
			}
		}
	}
}

// lessonFiles are the Go files of a lesson, each with the lines of code that it may
// have: so many fit a projector in a few screens.
func lessonFiles(lesson string) map[string]int {
	switch lesson {
	case "05-lease":
		return map[string]int{"main.go": 90}
	case "06-watch":
		return map[string]int{"main.go": 80, "follow.go": 80}
	case "08-txn-lock":
		return map[string]int{"main.go": 80, "lock.go": 80}
	default:
		return map[string]int{"main.go": 80}
	}
}

// TestLessonFiles checks what a learner finds in a lesson folder.
func TestLessonFiles(t *testing.T) {
	for _, lesson := range harness.Lessons {
		if err := checkFiles(filepath.Join(harness.Root, lesson), lessonFiles(lesson)); err != nil {
			t.Errorf("%s:\n%v", lesson, err)
		}
	}
}

// checkFiles refuses a lesson's folder that holds something else than a module of
// these Go files, or a file that is too long or too wide.
func checkFiles(folder string, limits map[string]int) error {
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for _, file := range files {
		name := file.Name()
		if name == "go.mod" || name == "go.sum" {
			continue
		}
		limit, known := limits[name]
		if !known {
			refuse("%s does not belong there", name)
			continue
		}
		source, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		code := 0
		for i, line := range strings.Split(string(source), "\n") {
			if line := strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				code++
			}
			if wide := strings.ReplaceAll(line, "\t", "    "); len([]rune(wide)) > 80 {
				refuse("%s:%d is wider than 80 columns", name, i+1)
			}
		}
		if code > limit {
			refuse("%s has %d lines of code, and may have %d", name, code, limit)
		}
	}
	return errors.Join(wrong...)
}

// module is what go mod edit -json prints of a go.mod file.
type module struct {
	Module  struct{ Path string }
	Go      string
	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Replace []json.RawMessage
}

// modules returns the go.mod files of the workspace.
func modules(t *testing.T) []module {
	t.Helper()
	var work struct{ Use []struct{ DiskPath string } }
	harness.GoJSON(t, &work, "work", "edit", "-json", filepath.Join(harness.Root, "go.work"))
	if len(work.Use) != len(harness.Lessons)+4 {
		t.Fatalf("go.work names %d modules", len(work.Use))
	}
	var modules []module
	for _, use := range work.Use {
		var m module
		harness.GoJSON(t, &m, "mod", "edit", "-json", filepath.Join(harness.Root, use.DiskPath, "go.mod"))
		modules = append(modules, m)
	}
	return modules
}
