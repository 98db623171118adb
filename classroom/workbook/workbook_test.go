package workbook

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/check"
)

// TestWhatIsBuiltIsHashed changes, one by one, what a program is built from, and what it is not.
func TestWhatIsBuiltIsHashed(t *testing.T) {
	t.Parallel()
	b := Open(t.TempDir())
	e := check.Exercises[1]
	write(t, b.path("go.mod"), "module my\n")
	write(t, b.path("words", "go.mod"), "module example.com/words // Theirs.\n")
	write(t, b.path(e.Name, "main.go"), "package main\n\nfunc main() {}\n")
	last := hash(t, b, e)
	if want := "55a60bb97151b2b4b680462447ce60ec34511b14fa10d77440c97b9777101566"; last != want {
		t.Errorf("the hash of main.go alone is %s, not %s, which learners have passed with", last, want)
	}
	for _, c := range []struct {
		file, text string
		built      bool
	}{
		{"follow.go", "package main\n", true},
		{"follow.go", "package main\n\nimport _ \"my/02-put/parts\"\n", true},
		{"parts/parts.go", "package parts\n", true},
		{"parts/parts.go", "package parts\n\nimport (\n\t_ \"embed\"\n\t_ \"my/library\"\n)\n\n//go:embed words\nvar words embed.FS\n", true},
		{"parts/words/one.txt", "one", true},
		{"../library/library.go", "package library\n\nimport _ \"my/02-put/parts\"\n", true},
		{"../library/library.go", "package library\n\nimport _ \"example.com/words/long\"\n", true},
		{"../words/long/long.go", "package long\n", true},
		{"../words/long/long.go", "package long\n\nimport _ \"example.com/words\"\n", true},
		{"../words/words.go", "package words\n", true},
		{"../words/short/short.go", "package short\n", false},
		{"../library/library.go", "package library\n\nimport \"my", true},
		{"main.go", "package main\n\nfunc main() { println() }\n", true},
		{"main.go", "", true},
		{"main_test.go", "package main\n", false},
		{"once.go", "//go:build ignore\n\npackage main\n", false},
		{".#main.go", "package main\n", false},
		{"solution/main.go", "package main\n", false},
		{"../other/other.go", "package other\n", false},
		{"main.go.1", "package main\n", false},
		{refused, "", false},
	} {
		write(t, b.path(e.Name, c.file), c.text)
		now := hash(t, b, e)
		if (now != last) != c.built {
			t.Errorf("%s with %q is built: %v, hashed: %v", c.file, c.text, c.built, now != last)
		}
		last = now
	}
}

// TestResetTakesAllThatIsBuilt resets a program of two files, twice.
func TestResetTakesAllThatIsBuilt(t *testing.T) {
	t.Parallel()
	b := Open(t.TempDir())
	e := check.Exercises[1]
	for _, name := range []string{"go.mod", "go.sum", e.Name + "/main.go"} {
		write(t, filepath.Join(b.root, "exercises", name), "package main\n")
	}
	if _, err := b.Start(e); err != nil {
		t.Fatal(err)
	}
	write(t, b.path(e.Name, "follow.go"), "package main\n")
	write(t, b.path(e.Name, "notes.txt"), "")
	for _, want := range [][]string{
		{"my/02-put/follow.go.1", "my/02-put/main.go.1"},
		{"my/02-put/main.go.2"},
	} {
		kept, err := b.Reset(e)
		if err != nil || !slices.Equal(kept, want) {
			t.Errorf("kept are %v, %v, want %v", kept, err, want)
		}
		files, _ := b.inFolder(e.Name)
		if want := []string{"02-put/main.go"}; !slices.Equal(files, want) {
			t.Errorf("the fresh copy is built from %v", files)
		}
	}
	if _, err := os.Stat(b.path(e.Name, "notes.txt")); err != nil {
		t.Error(err)
	}
}

// TestTwoRemember has several books of one learner, as of several processes, remember at
// the same time.
func TestTwoRemember(t *testing.T) {
	t.Parallel()
	const each = 30
	root, others := t.TempDir(), check.Exercises[:4]
	var all sync.WaitGroup
	for _, e := range others {
		b := Open(root)
		all.Go(func() {
			for range each {
				if err := b.update(e.Name, func(p *page) { p.Hints++ }); err != nil {
					t.Error(err)
				}
				if err := b.update(check.Exercises[8].Name, func(p *page) { p.Hints++ }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	pages, err := Open(root).pages()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range others {
		if got := pages[e.Name].Hints; got != each {
			t.Errorf("of %s, %d of %d are remembered", e.Name, got, each)
		}
	}
	if got := pages[check.Exercises[8].Name].Hints; got != each*len(others) {
		t.Errorf("of what all count, %d of %d are remembered", got, each*len(others))
	}
}

func hash(t *testing.T, b *Book, e check.Exercise) string {
	t.Helper()
	hash, err := b.hash(e.Name)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
