package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// CopyOfTree returns a folder with the files that git knows, or would add.
func CopyOfTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = Root
	output, err := list.Output()
	if err != nil {
		t.Fatalf("list the files of the tree: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(output), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(Root, name))
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, 0o600)
		}
		etcdtest.NoError(t, err)
	}
	return dir
}
