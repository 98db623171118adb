package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// candidate is a program that tries the judge of an exercise.
type candidate struct {
	name    string
	source  string
	refused []string // the rounds of which one has to find it; none for a right one
	text    string   // what is said to the start, digits aside
	times   int
}

// TestExercises holds each judge to a table: the start and the wrong fixes are refused,
// for what they do, the solution and other right programs pass. With -nightly it tries
// them all, with -long the starts and right programs.
func TestExercises(t *testing.T) {
	etcdtest.NeedsLong(t, "forty programs")
	t.Parallel()
	// All checks of this process share their members.
	etcdtest.ReserveFirst(t, min(int(check.Members()), etcdtest.Places()))
	var mu sync.Mutex
	broken := map[string]bool{} // the rules that some program has broken
	found := map[string]bool{}  // the rounds that have refused some program
	left := map[string]int{}    // how many programs of each exercise did not run
	t.Run("all", func(t *testing.T) {
		for _, e := range check.Exercises {
			list := candidates(t, e)
			if !etcdtest.Nightly() {
				list = slices.DeleteFunc(list, func(c candidate) bool { return c.refused != nil && c.name != "start" })
			}
			left[e.Name] = len(list)
			for _, c := range list {
				t.Run(e.Name+"/"+c.name, func(t *testing.T) {
					t.Parallel()
					binary := buildCandidate(t, e.Name, c.source)
					for range c.times {
						result, err := check.Run(t.Context(), e, binary, nil)
						if err != nil {
							t.Fatalf("the judge could not judge: %v", err)
						}
						c.compare(t, result)
						mu.Lock()
						broken[result.Rule], found[e.Name+" "+result.Round] = true, true
						mu.Unlock()
					}
					mu.Lock()
					defer mu.Unlock()
					left[e.Name]--
				})
			}
		}
	})
	if !etcdtest.Nightly() || t.Failed() {
		return
	}
	all := true
	for _, e := range check.Exercises {
		// A part of the programs shows nothing of what no program breaks.
		if left[e.Name] > 0 {
			all = false
			continue
		}
		for _, round := range e.Rounds() {
			if !found[e.Name+" "+round] {
				t.Errorf("%s: no wrong fix is found by the round %q", e.Name, round)
			}
		}
	}
	if !all {
		return
	}
	for _, rule := range rulesOfJudges(t) {
		if !broken[rule] {
			t.Errorf("no wrong fix is refused for: %s", rule)
		}
	}
}

// compare fails when the judge says something else of a program than it should.
func (c *candidate) compare(t *testing.T, result check.Result) {
	t.Helper()
	switch {
	case c.refused == nil && !result.Passed:
		t.Errorf("a right program is refused in %q: %s", result.Round, result.Text)
	case c.refused == nil:
	case result.Passed:
		t.Errorf("it passed; one of these rounds should have refused it: %s", strings.Join(c.refused, ", "))
	case !slices.Contains(c.refused, result.Round):
		t.Errorf("it was refused in %q, not in %s: %s", result.Round, strings.Join(c.refused, ", "), result.Text)
	case c.text != "" && digits.ReplaceAllString(result.Text, "0") != digits.ReplaceAllString(c.text, "0"):
		t.Errorf("it is told: %s\nnot: %s", result.Text, c.text)
	default:
		t.Logf("%s: %s", result.Round, result.Text)
	}
}

var digits = regexp.MustCompile(`[0-9]+`)

// candidates returns the programs for an exercise: the start, the solution, and all others.
func candidates(t *testing.T, e check.Exercise) (list []candidate) {
	t.Helper()
	read := func(path ...string) string {
		text, err := os.ReadFile(filepath.Join(append([]string{harness.Root, "exercises"}, path...)...))
		etcdtest.NoError(t, err)
		return string(text)
	}
	times := func(long int) int {
		if etcdtest.Nightly() {
			return long
		}
		return 1
	}
	start := read(e.Name, "main.go")
	round, text, _ := strings.Cut(read("testdata", e.Name, "start.txt"), "\n")
	sources := map[string]string{"start": start, "solution": read("solutions", e.Name, "main.go")}
	list = []candidate{
		{name: "start", source: start, refused: []string{round}, text: strings.Join(strings.Fields(text), " "), times: times(3)},
		{name: "solution", source: sources["solution"], times: times(10)},
	}
	files, err := os.ReadDir(filepath.Join(harness.Root, "exercises", "testdata", e.Name))
	etcdtest.NoError(t, err)
	for _, file := range files {
		name, isGo := strings.CutSuffix(file.Name(), ".go")
		if !isGo {
			continue
		}
		c := candidate{name: name, source: read("testdata", e.Name, file.Name()), times: times(3)}
		if strings.HasPrefix(name, "wrong-") {
			c.refused = e.Rounds()[:1]
			if line, _, _ := strings.Cut(c.source, "\n"); strings.HasPrefix(line, "// refused: ") {
				c.refused = strings.Split(strings.TrimPrefix(line, "// refused: "), ", ")
			}
		} else {
			sources[name] = c.source
		}
		list = append(list, c)
	}
	for _, fix := range strings.Split("\n"+read("testdata", e.Name, "wrong.txt"), "\n=== ")[1:] {
		c, err := parseFix(fix, sources)
		if err != nil {
			t.Fatalf("%s: the fix %q: %v", e.Name, c.name, err)
		}
		for _, round := range c.refused {
			if !slices.Contains(e.Rounds(), round) {
				t.Fatalf("%s: the fix %q: there is no round %q", e.Name, c.name, round)
			}
		}
		c.times = times(3)
		list = append(list, c)
	}
	return list
}

// TestExercisesCompile has the compiler look at all programs that try the judges.
func TestExercisesCompile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	overlay := map[string]string{}
	for _, e := range check.Exercises {
		list := candidates(t, e)
		for i, c := range list {
			// Each is a package of its own, in a folder that is not there.
			name := fmt.Sprintf("%s-%d", e.Name, i)
			source := filepath.Join(dir, name+".go")
			etcdtest.NoError(t, os.WriteFile(source, []byte(c.source), 0o600))
			overlay[filepath.Join(harness.Root, "exercises", "compiled", name, "main.go")] = source
		}
	}
	list := filepath.Join(dir, "overlay.json")
	etcdtest.NoError(t, harness.WriteOverlay(list, overlay))
	// To list what they export takes to compile them, and not to link them.
	compile := exec.Command("go", "list", "-export", "-overlay", list, "./exercises/compiled/...")
	compile.Dir = harness.Root
	if output, err := compile.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// parseFix reads one fix of a wrong.txt: see exercises/testdata/README.md.
func parseFix(text string, sources map[string]string) (candidate, error) {
	name, text, _ := strings.Cut(text, "\n")
	c := candidate{name: "wrong/" + name}
	on, text, _ := strings.Cut(text, "\n")
	refused, text, _ := strings.Cut(text, "\n")
	on, isOn := strings.CutPrefix(on, "on: ")
	refused, isRefused := strings.CutPrefix(refused, "refused: ")
	if !isOn || !isRefused || sources[on] == "" {
		return c, fmt.Errorf("want on: a program that is there, and refused:")
	}
	c.source, c.refused = sources[on], strings.Split(refused, ", ")
	for _, replacement := range strings.Split("\n"+strings.TrimRight(text, "\n"), "\n---\n")[1:] {
		from, to, ok := strings.Cut(replacement+"\n", "\n+++\n")
		if !ok {
			return c, fmt.Errorf("a replacement without +++")
		}
		from += "\n"
		if n := strings.Count("\n"+c.source, "\n"+from); n != 1 {
			return c, fmt.Errorf("%d times in the program, not once:\n%s", n, from)
		}
		c.source = strings.TrimPrefix(strings.Replace("\n"+c.source, "\n"+from, "\n"+to, 1), "\n")
	}
	return c, nil
}

// buildCandidate returns the path of the exercise's program with another source.
func buildCandidate(t *testing.T, exercise, source string) string {
	t.Helper()
	dir := t.TempDir()
	main := filepath.Join(dir, "main.go")
	etcdtest.NoError(t, os.WriteFile(main, []byte(source), 0o600))
	list := filepath.Join(dir, "overlay.json")
	etcdtest.NoError(t, harness.WriteOverlay(list, map[string]string{filepath.Join(harness.Root, "exercises", exercise, "main.go"): main}))
	binary := filepath.Join(dir, "program.exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-overlay", list, "-o", binary, "./exercises/"+exercise)
	build.Dir = harness.Root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build it: %v\n%s", err, output)
	}
	return binary
}

// rulesOfJudges returns the format of each refusal in the package check.
func rulesOfJudges(t *testing.T) (rules []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(harness.Root, "classroom", "check", "*.go"))
	etcdtest.NoError(t, err)
	for _, name := range files {
		source, err := os.ReadFile(name)
		etcdtest.NoError(t, err)
		for _, found := range refusal.FindAllSubmatch(source, -1) {
			rule, err := strconv.Unquote(plus.ReplaceAllString(string(found[1]), ""))
			etcdtest.NoError(t, err)
			rules = append(rules, rule)
		}
	}
	return rules
}

// A format is a literal, or some that are added.
var (
	refusal = regexp.MustCompile(`\.refuse\([^"]*("(?:[^"\\]|\\.|"\s*\+\s*")*")`)
	plus    = regexp.MustCompile(`"\s*\+\s*"`)
)
