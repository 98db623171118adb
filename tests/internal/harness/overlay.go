package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// overlays are the files of testdata that are laid over a lesson's folder, beside
// goroutines_test.go, which is laid over all.
var overlays = map[string][]string{
	"06-watch":    {"follow_test.go", "stdin_test.go"},
	"08-txn-lock": {"08-txn-lock_test.go", "contend_test.go", "stdin_test.go"},
}

// binaries builds each lesson's test binary when it is first asked for.
var binaries = func() map[string]func() (string, error) {
	build := map[string]func() (string, error){}
	for _, lesson := range Lessons {
		build[lesson] = sync.OnceValues(func() (string, error) { return buildOverlaid(lesson) })
	}
	return build
}()

// Overlaid returns the path of a lesson's test binary, which has all files of
// testdata that fit the lesson laid over its folder.
func Overlaid(t testing.TB, lesson string) string {
	t.Helper()
	binary, err := binaries[lesson]()
	etcdtest.NoError(t, err)
	return binary
}

// StartOverlaid starts one of the tests that are laid over a lesson, with further
// variables and flags, in a process of its own. It ends at the end of its standard
// input, which is to close what is returned.
func StartOverlaid(t testing.TB, lesson, test string, env []string, flags ...string) (*Running, io.Closer) {
	t.Helper()
	flags = append([]string{"-test.run", "^" + test + "$", "-test.timeout", "1h"}, flags...)
	cmd := exec.Command(Overlaid(t, lesson), flags...)
	cmd.Env = Env(env...)
	stdin, err := cmd.StdinPipe()
	etcdtest.NoError(t, err)
	return Command(t, cmd), stdin
}

// WriteOverlay writes a file that has the go command see sources in the place of others.
func WriteOverlay(file string, replace map[string]string) error {
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

func buildOverlaid(lesson string) (string, error) {
	folder := filepath.Join(Root, lesson)
	testdata := filepath.Join(Root, "tests", "testdata")
	replace := map[string]string{}
	for _, name := range append(overlays[lesson], "goroutines_test.go") {
		replace[filepath.Join(folder, name)] = filepath.Join(testdata, name)
	}
	binary := filepath.Join(os.TempDir(), lesson+".test")
	if err := WriteOverlay(binary+".json", replace); err != nil {
		return "", err
	}
	build := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-overlay", binary+".json", "-o", binary, ".")
	build.Dir = folder
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", lesson, err, output)
	}
	return binary, nil
}
