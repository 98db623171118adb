package tests

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/version"
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
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
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
	list(t, &work, "work", "edit", "-json", filepath.Join(root, "go.work"))
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

// TestLessonFiles checks what a learner finds in a lesson folder, and that it
// fits a projector.
func TestLessonFiles(t *testing.T) {
	for _, lesson := range lessons {
		files, err := os.ReadDir(filepath.Join(root, lesson))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			switch file.Name() {
			case "main.go", "go.mod", "go.sum":
			default:
				t.Errorf("%s holds %s", lesson, file.Name())
			}
		}
		source, err := os.ReadFile(filepath.Join(root, lesson, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range bytes.Split(source, []byte("\n")) {
			wide := strings.ReplaceAll(string(line), "\t", "    ")
			if len([]rune(wide)) > 80 {
				t.Errorf("%s/main.go:%d is wider than 80 columns", lesson, i+1)
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
	list(t, &work, "work", "edit", "-json", filepath.Join(root, "go.work"))
	if len(work.Use) != len(lessons)+3 {
		t.Fatalf("go.work names %d modules", len(work.Use))
	}
	var modules []module
	for _, use := range work.Use {
		var m module
		list(t, &m, "mod", "edit", "-json", filepath.Join(root, use.DiskPath, "go.mod"))
		modules = append(modules, m)
	}
	return modules
}

// list decodes the JSON that a go command prints.
func list(t *testing.T, into any, args ...string) {
	t.Helper()
	output, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	if err := json.Unmarshal(output, into); err != nil {
		t.Fatal(err)
	}
}
