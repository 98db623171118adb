// Package workbook keeps a learner's copies of the exercises in the folder my: it
// hands them out, has them checked, and remembers which have passed.
package workbook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"go/version"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/classroom/history"
)

// Folder is where the copies are, from the root of the repository. git ignores it.
const Folder = "my"

// Book is what a learner has done. Its folder is a module of its own with a go.work of
// its own: editors and go vet see what is wrong there, and the course stays as it is.
type Book struct {
	root string
	mu   sync.Mutex // held while what is remembered is changed
}

// Open returns the book of the course at root, the folder of go.work. Nothing is
// written before Start.
func Open(root string) *Book { return &Book{root: root} }

// ErrNotStarted says that there is no copy to check.
var ErrNotStarted = errors.New("there is no copy of it yet")

// State is how far an exercise has come.
type State struct {
	Name    string   `json:"exercise"`
	Started bool     `json:"started"`
	Passed  bool     `json:"passed"`            // its files are those that have passed
	Last    *Verdict `json:"last,omitempty"`    // nil when no check has ended yet
	Changed bool     `json:"changed,omitempty"` // since Last
}

// States are those of all exercises, in order.
type States []State

// Passed returns how many have passed.
func (s States) Passed() int {
	passed := 0
	for _, state := range s {
		if state.Passed {
			passed++
		}
	}
	return passed
}

// Next returns the index of the first that has not passed, or -1.
func (s States) Next() int {
	return slices.IndexFunc(s, func(state State) bool { return !state.Passed })
}

// Current returns the index of the first that was started and has not passed, or -1.
func (s States) Current() int {
	return slices.IndexFunc(s, func(state State) bool { return state.Started && !state.Passed })
}

// Mark returns ✓ for one that has passed, → for the next one, and · for the others.
func (s States) Mark(i int) string {
	switch {
	case s[i].Passed:
		return "✓"
	case i == s.Next():
		return "→"
	default:
		return "·"
	}
}

// Verdict is what came of a check, as JSON for a teacher's programs.
type Verdict struct {
	Exercise string  `json:"exercise"`
	Passed   bool    `json:"passed"`
	Reason   string  `json:"reason,omitempty"` // the round that refused it, or one of the words below
	Text     string  `json:"text,omitempty"`
	Revision int64   `json:"revision,omitempty"`
	Seconds  float64 `json:"seconds"`
	History  string  `json:"history,omitempty"` // the file that has what etcd did, from the root
}

// Reasons of a Verdict that are no rounds.
const (
	NotStarted = "not started"
	NotBuilt   = "does not compile"
	NotJudged  = "the judge failed"
	GoFailed   = "Go failed" // for a reason that is not in the program
)

// page is what is remembered of an exercise.
type page struct {
	Passed string   `json:"passed,omitempty"` // the hash of the files that have passed
	Judged string   `json:"judged,omitempty"` // the hash of those that Last is about
	Hints  int      `json:"hints,omitempty"`  // how many were read
	Last   *Verdict `json:"last,omitempty"`
}

func (b *Book) path(parts ...string) string {
	return filepath.Join(append([]string{b.root, Folder}, parts...)...)
}

// File returns the learner's copy, from the root.
func File(name string) string { return Folder + "/" + name + "/main.go" }

// States returns how far the learner has come.
func (b *Book) States() (States, error) {
	pages, err := b.pages()
	if err != nil {
		return nil, err
	}
	var states States
	for _, e := range check.Exercises {
		s := State{Name: e.Name}
		hash, err := b.hash(e.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if s.Started = err == nil; s.Started {
			p := pages[e.Name]
			s.Passed = p.Passed == hash
			s.Changed = p.Last != nil && p.Judged != hash
			s.Last = p.Last
			if s.Passed && s.Changed {
				s.Last, s.Changed = nil, false // These are again the files that had passed before.
			}
		}
		states = append(states, s)
	}
	return states, nil
}

// readText returns the text of a file. Git or an editor may have given its lines other ends.
func readText(name string) (string, error) {
	text, err := os.ReadFile(name)
	return strings.ReplaceAll(string(text), "\r\n", "\n"), err
}

// hash tells one state of what the learner's program is built from from another.
func (b *Book) hash(name string) (string, error) {
	if _, err := os.Stat(b.path(name, "main.go")); err != nil {
		return "", err
	}
	files, all := b.sources(name), sha256.New()
	for _, file := range files {
		text, err := readText(b.path(file))
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256([]byte(text))
		if len(files) == 1 {
			return hex.EncodeToString(sum[:]), nil
		}
		fmt.Fprintf(all, "%s %x\n", file, sum)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// Saved returns the hash of each copy that there is, by the exercise's name.
func (b *Book) Saved() map[string]string {
	saved := map[string]string{}
	for _, e := range check.Exercises {
		if hash, err := b.hash(e.Name); err == nil {
			saved[e.Name] = hash
		}
	}
	return saved
}

// Start gives the learner a copy, unless there is one, and returns whether it did.
func (b *Book) Start(e check.Exercise) (made bool, err error) {
	if err := b.prepare(); err != nil {
		return false, err
	}
	text, err := b.original(e.Name)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(b.path(e.Name), 0o755); err != nil {
		return false, err
	}
	file, err := os.OpenFile(b.path(e.Name, "main.go"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = file.WriteString(text)
	return true, errors.Join(err, file.Close())
}

// original returns an exercise as a learner gets it: its text says how to run the copy.
func (b *Book) original(name string) (string, error) {
	text, err := readText(filepath.Join(b.root, "exercises", name, "main.go"))
	return strings.ReplaceAll(text, "go run ./exercises/"+name, "go -C my run ./"+name), err
}

// Task returns what an exercise asks, in the syntax of doc comments.
func (b *Book) Task(e check.Exercise) (string, error) {
	text, err := b.original(e.Name)
	if err != nil {
		return "", err
	}
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", text, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		return "", err
	}
	return file.Doc.Text(), nil
}

// prepare makes the learner's folder a module with the versions of the exercises. What
// the learner has added to it stays, such as a library: a copy may need it.
func (b *Book) prepare() error {
	if err := os.MkdirAll(b.path(), 0o755); err != nil {
		return err
	}
	module, err := readText(filepath.Join(b.root, "exercises", "go.mod"))
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(b.root, "exercises", "go.sum"))
	if err != nil {
		return err
	}
	text := strings.Replace(module, "example.com/etcd-by-example/exercises", "my", 1)
	line := goLine.FindString(text)
	// In their go.mod older versions may stay: shared has those of the exercises.
	newer := func(theirs string) string {
		if version.Compare(goVersion(goLine.FindString(theirs)), goVersion(line)) < 0 {
			theirs = goLine.ReplaceAllLiteralString(theirs, line)
		}
		return theirs
	}
	return errors.Join(
		b.keep("go.mod", text, newer),
		b.keep("go.work", line+"\n\nuse (\n\t.\n\t../shared\n)\n", newer),
		b.keep("go.sum", string(sums), func(theirs string) string {
			for sum := range strings.Lines(string(sums)) {
				if !strings.Contains(theirs, strings.TrimSpace(sum)) {
					theirs += sum
				}
			}
			return theirs
		}))
}

// goLine is where a go.mod and a go.work say which version of Go they need.
var goLine = regexp.MustCompile(`(?m)^go [\w.]+`)

func goVersion(line string) string { return strings.Replace(line, "go ", "go", 1) }

// keep writes a file of the learner's module where there is none, and else what has to be
// changed in theirs.
func (b *Book) keep(name, text string, change func(theirs string) string) error {
	theirs, err := os.ReadFile(b.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if text = change(string(theirs)); text == string(theirs) {
			return nil
		}
	}
	return os.WriteFile(b.path(name), []byte(text), 0o644)
}

// Reset gives a fresh copy, and returns where the files of the old one are kept.
func (b *Book) Reset(e check.Exercise) (kept []string, err error) {
	if _, err := b.hash(e.Name); err != nil {
		return nil, ErrNotStarted
	}
	files, _ := b.inFolder(e.Name)
	if main := e.Name + "/main.go"; !slices.Contains(files, main) {
		files = append(files, main) // Its build tag leaves it out.
	}
	for n := 1; ; n++ {
		beside := func(file string) string { return fmt.Sprintf("%s.%d", file, n) }
		if slices.ContainsFunc(files, func(file string) bool {
			_, err := os.Lstat(b.path(beside(file)))
			return err == nil
		}) {
			continue
		}
		for _, file := range files {
			if err := os.Rename(b.path(file), b.path(beside(file))); err != nil {
				return kept, err
			}
			kept = append(kept, Folder+"/"+beside(file))
		}
		_, err = b.Start(e)
		return kept, err
	}
}

// Hint returns the next hint, its number, and how many there are. After the last one
// it is the first again.
func (b *Book) Hint(e check.Exercise) (text string, number, of int, err error) {
	hints, err := readText(filepath.Join(b.root, "exercises", "hints", e.Name+".txt"))
	if err != nil {
		return "", 0, 0, err
	}
	list := strings.Split(strings.TrimSpace(hints), "\n\n")
	err = b.update(e.Name, func(p *page) {
		number = p.Hints%len(list) + 1
		p.Hints = number
	})
	return list[number-1], number, len(list), err
}

// ErrNotPassed says that the solution is not shown yet.
var ErrNotPassed = errors.New("your program has not passed yet")

// Solution writes the solution beside the learner's copy, and returns where, from the
// root. Before the copy has passed, that is ErrNotPassed, unless the learner gives up.
func (b *Book) Solution(e check.Exercise, givesUp bool) (string, error) {
	hash, err := b.hash(e.Name)
	if err != nil {
		return "", ErrNotStarted
	}
	pages, err := b.pages()
	if err != nil {
		return "", err
	}
	if !givesUp && pages[e.Name].Passed != hash {
		return "", ErrNotPassed
	}
	text, err := readText(filepath.Join(b.root, "exercises", "solutions", e.Name, "main.go"))
	if err != nil {
		return "", err
	}
	// In a folder of its own, so that there are not two functions main in one.
	if err := os.MkdirAll(b.path(e.Name, "solution"), 0o755); err != nil {
		return "", err
	}
	name := Folder + "/" + e.Name + "/solution/main.go"
	return name, os.WriteFile(filepath.Join(b.root, name), []byte(text), 0o644)
}

// Check has the learner's copy judged, and remembers the verdict. A program that does
// not compile, or is not there, has a verdict as well. An error says that the judge
// failed, or that ctx ended.
func (b *Book) Check(ctx context.Context, e check.Exercise, progress func(ended int)) (
	Verdict, check.Result, error) {
	began := time.Now()
	v := Verdict{Exercise: e.Name}
	hash, err := b.hash(e.Name)
	if errors.Is(err, fs.ErrNotExist) {
		v.Reason, v.Text = NotStarted, "go run ./classroom check start "+e.Name[:2]+" gives you a copy."
		return v, check.Result{}, nil
	} else if err != nil {
		return v, check.Result{}, err
	}
	folder, err := newFolder(ctx)
	if err != nil {
		return v, check.Result{}, err
	}
	defer folder.Remove() // The verdict does not depend on it, and the next check tries again.
	program, said, err := b.build(ctx, e.Name, folder.Path)
	if err != nil {
		return v, check.Result{}, err
	}
	var result check.Result
	if program == "" {
		v.Reason, v.Text = NotBuilt, said
	} else {
		if result, err = check.Run(ctx, e, program, progress); err != nil {
			if mayNotRun := new(fs.PathError); errors.As(err, &mayNotRun) &&
				mayNotRun.Path == program && errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w: set GOTMPDIR to a folder from which programs may run", err)
			}
			return v, result, err
		}
		v.Passed, v.Reason, v.Text, v.Revision = result.Passed, result.Round, result.Text, result.Revision
	}
	v.Seconds = float64(time.Since(began).Round(100*time.Millisecond)) / float64(time.Second)
	if v.Passed {
		err := os.Remove(b.path(e.Name, refused))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return v, result, err
		}
	}
	if result.Record != nil {
		v.History = Folder + "/" + e.Name + "/" + refused
		if err := b.save(result, e.Name); err != nil {
			return v, result, err
		}
	}
	return v, result, b.update(e.Name, func(p *page) {
		p.Judged, p.Last = hash, &v
		if v.Passed {
			p.Passed = hash
		}
	})
}

// refused is the file that has what etcd did in the last refusal of an exercise, beside
// the copy. It is there until the exercise passes.
const refused = "refused.history"

// Refused returns what etcd did when the learner's copy was refused last.
func (b *Book) Refused(e check.Exercise) (*history.Record, error) {
	return history.LoadFile(b.path(e.Name, refused))
}

// save writes what etcd did, for the drawing of it.
func (b *Book) save(result check.Result, name string) error {
	file, err := os.Create(b.path(name, refused))
	if err != nil {
		return err
	}
	return errors.Join(result.Record.Save(file), file.Close())
}

// pages returns what is remembered.
func (b *Book) pages() (map[string]page, error) {
	pages := map[string]page{}
	text, err := os.ReadFile(b.path("progress.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return pages, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &pages)
	}
	if err != nil {
		return nil, fmt.Errorf("read what has passed: %w; if need be, remove the file", err)
	}
	return pages, nil
}

// update changes what is remembered of an exercise.
func (b *Book) update(name string, change func(*page)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.MkdirAll(b.path(), 0o755); err != nil {
		return err
	}
	unlock, err := lock(b.path("progress.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	pages, err := b.pages()
	if err != nil {
		return err
	}
	p := pages[name]
	change(&p)
	pages[name] = p
	text, err := json.MarshalIndent(pages, "", "  ")
	if err != nil {
		return err
	}
	// A reader sees the old file or the new one, never a part.
	fresh := b.path("progress.json.new")
	if err := os.WriteFile(fresh, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, b.path("progress.json"))
}
