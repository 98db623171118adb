package tests

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/workbook"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestLineEnds reads a copy of the tree in which all lines end as Windows has it: the
// pages, the answers, the hints and the exercises are the same.
func TestLineEnds(t *testing.T) {
	t.Parallel()
	same, other := harness.CopyOfTree(t), harness.CopyOfTree(t)
	changed := 0
	eachText(t, other, func(name string, text []byte) {
		etcdtest.NoError(t, os.WriteFile(name, bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), 0o600))
		changed++
	})
	if changed < 100 {
		t.Fatalf("only %d files were changed", changed)
	}
	for _, name := range course.Names {
		if want, got := lesson(t, same, name), lesson(t, other, name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is shown in another way:\n%.300q", name, fmt.Sprint(got))
		}
	}
	for _, e := range check.Exercises {
		if want, got := exercise(t, same, e), exercise(t, other, e); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is handed out in another way:\n%.300q", e.Name, fmt.Sprint(got))
		}
	}
	// Another end of line is no other program.
	book := workbook.Open(same)
	before := book.Saved()
	eachText(t, filepath.Join(same, workbook.Folder), func(name string, text []byte) {
		etcdtest.NoError(t, os.WriteFile(name, bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), 0o600))
	})
	if after := book.Saved(); !reflect.DeepEqual(after, before) {
		t.Error("copies with other line ends are taken for others")
	}
}

// TestClonesHaveLineFeeds clones the tree as Git for Windows does by default.
func TestClonesHaveLineFeeds(t *testing.T) {
	t.Parallel()
	tree, clone := harness.CopyOfTree(t), filepath.Join(t.TempDir(), "clone")
	for _, args := range [][]string{
		{"-C", tree, "init", "--quiet"},
		{"-C", tree, "add", "--all"},
		{"-C", tree, "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false", "commit", "--quiet", "--message=all"},
		{"clone", "--quiet", "--config", "core.autocrlf=true", tree, clone},
	} {
		if output, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, output)
		}
	}
	eachText(t, clone, func(name string, text []byte) {
		if bytes.Contains(text, []byte("\r\n")) {
			t.Errorf("%s has CRLF", strings.TrimPrefix(name, clone))
		}
	})
}

// eachText calls do for each text file in a folder, but for those of git.
func eachText(t *testing.T, folder string, do func(name string, text []byte)) {
	t.Helper()
	etcdtest.NoError(t, filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err == nil && bytes.IndexByte(content, 0) < 0 {
			do(name, content)
		}
		return err
	}))
}

// shown is what the board shows of a lesson.
type shown struct {
	Text  template.HTML
	Code  []template.HTML
	Flags []course.Flag
}

func lesson(t *testing.T, root, name string) (all shown) {
	t.Helper()
	files, err := course.Files(root, name)
	etcdtest.NoError(t, err)
	all.Text, err = course.Text(root, name, files)
	etcdtest.NoError(t, err)
	for _, file := range files {
		code, err := file.Code()
		etcdtest.NoError(t, err)
		all.Code = append(all.Code, code)
	}
	all.Flags = course.FindFlags(files).All
	return all
}

// handed is what a learner gets for an exercise.
type handed struct {
	Task, Copy, Module, Workspace string
	Hints                         []string
}

func exercise(t *testing.T, root string, e check.Exercise) (all handed) {
	t.Helper()
	book := workbook.Open(root)
	var err error
	all.Task, err = book.Task(e)
	etcdtest.NoError(t, err)
	_, err = book.Start(e)
	etcdtest.NoError(t, err)
	for _, file := range []struct {
		name string
		to   *string
	}{{e.Name + "/main.go", &all.Copy}, {"go.mod", &all.Module}, {"go.work", &all.Workspace}} {
		text, err := os.ReadFile(filepath.Join(root, workbook.Folder, file.name))
		etcdtest.NoError(t, err)
		*file.to = string(text)
	}
	for of := 1; len(all.Hints) < of; {
		text, _, count, err := book.Hint(e)
		etcdtest.NoError(t, err)
		all.Hints, of = append(all.Hints, text), count
	}
	return all
}
