package course

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFlags compares the flags that are read from a lesson's source with those
// that the lesson itself prints.
func TestFlags(t *testing.T) {
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	pid := regexp.MustCompile(` \(default "pid-[0-9]+"\)`)
	total := 0
	for _, name := range Names {
		program, err := Build(t.Context(), root, name, t.Output())
		if err != nil {
			t.Fatal(err)
		}
		printed, err := exec.Command(program, "-h").CombinedOutput()
		if err != nil {
			t.Fatalf("%s -h: %v", name, err)
		}
		_, want, _ := strings.Cut(string(printed), "\n")
		files, err := Files(root, name)
		if err != nil {
			t.Fatal(err)
		}
		flags := FindFlags(files)
		var got bytes.Buffer
		flags.set.SetOutput(&got)
		flags.set.PrintDefaults()
		if want = pid.ReplaceAllString(want, ""); got.String() != want {
			t.Errorf("%s: got\n%swant\n%s", name, &got, want)
		}
		total += len(flags.All)
	}
	if total == 0 {
		t.Error("no lesson has a flag")
	}
}

func TestArguments(t *testing.T) {
	flags := FindFlags([]File{
		{"main.go", []byte("package main\n" +
			"var a = flag.Int64(\"ttl\", 2+1, \"\")\nvar b = flag.Bool(\"guard\", true, \"\")\n")},
		{"broken.go", nil},
		{"other.go", []byte("package main\nvar c = flag.String(\"name\", fmt.Sprint(1), \"\")\n" +
			"func init() { flag.DurationVar(&d, \"for\", 90*time.Second, \"\") }\n" +
			"var e = flag.Int(\"count\", runtime.NumCPU(), \"\")\n")},
	})
	for _, c := range []struct {
		form map[string][]string
		want string
		err  string
	}{
		{map[string][]string{"ttl": {"3"}, "guard": {"true"}, "for": {"1m30s"}, "name": {""}}, "", ""},
		{map[string][]string{"ttl": {"10"}, "guard": {"false"}, "for": {"5s"}, "name": {"-alice b"}},
			"-ttl 10 -guard=false -name -alice b -for 5s", ""},
		{map[string][]string{"count": {"0"}}, "-count 0", ""}, // Its default is not known to be 0.
		{map[string][]string{"ttl": {"ten"}}, "", `-ttl: "ten" is no int64`},
		{map[string][]string{"for": {"5"}}, "", "is no duration"},
		{map[string][]string{"other": {"5"}}, "", `there is no flag "other"`},
		{map[string][]string{"ttl": {"1", "2"}}, "", "one value"},
		{map[string][]string{"name": {strings.Repeat("a", 101)}}, "", "at most 100 bytes"},
		{map[string][]string{"name": {"a\x00b"}}, "", "printable"},
		{map[string][]string{"name": {"a\u202eb"}}, "", "printable"},
		{map[string][]string{"name": {"a\xffb"}}, "", "printable"},
	} {
		args, err := flags.Arguments(c.form)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%v: error %v, want %q", c.form, err, c.err)
		}
		if got := strings.Join(args, " "); got != c.want {
			t.Errorf("%v: got %q, want %q", c.form, got, c.want)
		}
	}
}
