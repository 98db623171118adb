package tests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/version"

	"example.com/etcd-by-example/classroom/etcdtest"
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
		etcdtest.NoError(t, err)
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

// TestLessonFiles checks what a learner finds in a lesson folder: a module with one Go
// file or two, which fit a projector in a few screens.
func TestLessonFiles(t *testing.T) {
	for _, lesson := range harness.Lessons {
		files, err := os.ReadDir(filepath.Join(harness.Root, lesson))
		etcdtest.NoError(t, err)
		for _, file := range files {
			name := lesson + "/" + file.Name()
			switch name {
			case lesson + "/main.go", "06-watch/follow.go", "08-txn-lock/lock.go":
			case lesson + "/go.mod", lesson + "/go.sum":
				continue
			default:
				t.Errorf("%s does not belong there", name)
				continue
			}
			source, err := os.ReadFile(filepath.Join(harness.Root, name))
			etcdtest.NoError(t, err)
			code, limit := 0, 80
			if lesson == "05-lease" {
				limit = 90
			}
			for i, line := range strings.Split(string(source), "\n") {
				if line := strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
					code++
				}
				if wide := strings.ReplaceAll(line, "\t", "    "); len([]rune(wide)) > 80 {
					t.Errorf("%s:%d is wider than 80 columns", name, i+1)
				}
			}
			if code > limit {
				t.Errorf("%s has %d lines of code, and may have %d", name, code, limit)
			}
		}
	}
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
