package course

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFiles lists a folder in which there is more than the lesson.
func TestFiles(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "01-connect")
	for _, name := range []string{"main.go", "follow.go", "again.go"} {
		write(t, filepath.Join(folder, name), "package main // "+name+"\n")
	}
	for _, name := range []string{"a_test.go", "notes.txt", ".hidden.go", "_left.go", "folder.go/a.go"} {
		write(t, filepath.Join(folder, name), "package main\n\n// unseen\n")
	}
	files, err := Files(root, "01-connect")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, f := range files {
		ids = append(ids, f.ID())
		if want := "package main // " + filepath.Base(f.Path) + "\n"; string(f.Source) != want {
			t.Errorf("%s: %q, want %q", f.Path, f.Source, want)
		}
	}
	want := []string{"code-01-connect-main.go", "code-01-connect-again.go", "code-01-connect-follow.go"}
	if !slices.Equal(ids, want) {
		t.Errorf("the files are %q, want %q", ids, want)
	}

	write(t, filepath.Join(folder, "again.go"), strings.Repeat("a", FileLimit))
	if _, err := Files(root, "01-connect"); err != nil {
		t.Errorf("a file that is just small enough: %v", err)
	}
	write(t, filepath.Join(folder, "again.go"), strings.Repeat("a", FileLimit+1))
	if _, err := Files(root, "01-connect"); err == nil || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("a file that is too large: %v", err)
	}
}
