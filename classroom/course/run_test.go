package course

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun runs programs to each kind of end.
func TestRun(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "go.mod"), "module example.com/lessons\n\ngo 1.26.0\n")
	// git says nothing of this folder, as of a clone that belongs to another user.
	if err := os.Mkdir(filepath.Join(root, ".git"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOFLAGS", "-buildvcs=auto")
	t.Setenv("GOWORK", filepath.Join(t.TempDir(), "go.work")) // That of another project.
	t.Setenv("GOARCH", "wasm")
	for name, body := range map[string]string{
		"01-ends":    `println("to stderr"); os.Stdout.WriteString(os.Args[1] + os.Getenv("TOLD")); os.Exit(3)`,
		"02-stays":   `time.Sleep(time.Hour); os.Exit(0)`,
		"03-invalid": `undefined()`,
	} {
		write(t, filepath.Join(root, name, "main.go"),
			"package main\n\nimport (\n\t\"os\"\n\t\"time\"\n)\n\nvar _ = time.Now\n\nfunc main() { "+body+" }\n")
	}
	for _, c := range []struct {
		what, name              string
		before, after           bool // whether ctx ends before the run, or once there is a process
		starts                  int
		outcome, stdout, stderr string
	}{
		{"ends", "01-ends", false, false, 1, "ended, status 3, ", "-a=b too", "to stderr"},
		{"is stopped", "02-stays", false, true, 1, "stopped, ", "", ""},
		{"does not build", "03-invalid", false, false, 0, "it does not build", "", "undefined: undefined"},
		{"is stopped early", "01-ends", true, false, 0, "stopped before it ran", "", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.before {
				cancel()
			}
			var stdout, stderr strings.Builder
			starts := 0
			outcome := Run(ctx, Program{
				Root: root, Name: c.name, Args: []string{"-a=b"}, Env: append(os.Environ(), "TOLD= too"),
				Stdout: &stdout, Stderr: &stderr,
			}, func(*os.Process) {
				starts++
				if c.after {
					cancel()
				}
			})
			if !strings.HasPrefix(outcome, c.outcome) || starts != c.starts {
				t.Errorf("outcome %q after %d starts, want %q after %d", outcome, starts, c.outcome, c.starts)
			}
			if stdout.String() != c.stdout || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("printed %q and %q, want %q and %q", &stdout, &stderr, c.stdout, c.stderr)
			}
		})
	}
}

// TestRoot looks for the course from each of its folders, and from others.
func TestRoot(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"course/shared", "course/my/02-put", "course/01-connect", "other/shared"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "course/shared/go.mod"), "module example.com/etcd-by-example/shared\n")
	write(t, filepath.Join(root, "other/shared/go.mod"), "module example.com/other/shared\n")
	for _, folder := range []string{"course", "course/my", "course/01-connect", "other"} {
		write(t, filepath.Join(root, folder, "go.work"), "go 1.26.0\n")
	}
	found := filepath.Join(root, "course")
	for _, c := range []struct{ folder, work, want string }{
		{"course", "", found},
		{"course/shared", "", found},
		{"course/my", "", found},
		{"course/my/02-put", "", found},
		{"course/01-connect", "", found},
		{"course", "off", found},
		{"course/my", "other/go.work", found},
		{"other", "course/go.work", found},
		{"other", "", ""},
		{".", "", ""},
	} {
		t.Chdir(filepath.Join(root, c.folder))
		if c.work != "" && c.work != "off" {
			c.work = filepath.Join(root, c.work)
		}
		t.Setenv("GOWORK", c.work)
		got, err := Root(t.Context())
		if got != c.want || c.want == "" && (err == nil || !strings.Contains(err.Error(), "01-connect")) {
			t.Errorf("in %s, with GOWORK=%s: got %q, %v", c.folder, c.work, got, err)
		}
	}
}

func TestCommand(t *testing.T) {
	got := Command("08-txn-lock", []string{"-name", "it's me", "-ttl", "3"})
	if want := `go run ./08-txn-lock -name 'it'\''s me' -ttl 3`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
