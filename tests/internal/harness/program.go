package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/process"
)

// Etcdctl and Server are what etcd's own modules have for the page to run.
const (
	Etcdctl = "go.etcd.io/etcd/etcdctl/v3"
	Server  = "go.etcd.io/etcd/server/v3"
)

// Built returns the folder of the programs that the tests run, all built once: the
// lessons, the classroom, etcdctl, server, and those of testdata.
var Built = sync.OnceValues(func() (string, error) {
	packages := []string{"./classroom", "./tests/testdata/concurrency", "./tests/testdata/go", Etcdctl, Server}
	for _, lesson := range Lessons {
		packages = append(packages, "./"+lesson)
	}
	var said bytes.Buffer
	if err := course.BuildAll(context.Background(), Root, built, &said, packages...); err != nil {
		return "", fmt.Errorf("%w\n%s", err, &said)
	}
	return built, nil
})

// Program returns the path of a built program: name is that of its folder.
func Program(t testing.TB, name string) string {
	t.Helper()
	folder, err := Built()
	etcdtest.NoError(t, err)
	return course.Executable(folder, name)
}

// Env is the environment without what points programs at some etcd, plus
// the variables given as name=value.
func Env(variables ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "ETCD")
	})
	return append(env, variables...)
}

// Result is how a program ended.
type Result struct {
	Stdout, Stderr string
	Status         int
	Took           time.Duration
}

// Want fails the test when a program has not ended with that status, or did not print
// these texts, or printed to stderr where it has nothing to say there.
func (r Result) Want(t testing.TB, status int, stdout, stderr string) {
	t.Helper()
	if r.Status != status || !strings.Contains(r.Stdout, stdout) || !strings.Contains(r.Stderr, stderr) ||
		stderr == "" && r.Stderr != "" {
		t.Errorf("status %d, want %d, with %q and %q\n%s%s", r.Status, status, stdout, stderr, r.Stdout, r.Stderr)
	}
}

// Run runs a lesson or the classroom against endpoint, with further variables,
// and fails the test when it does not end within three minutes: a slow machine needs
// its time, and a tour may have to link the lessons first.
func Run(t testing.TB, endpoint string, env []string, name string,
	args ...string) Result {
	t.Helper()
	return Start(t, endpoint, env, name, args...).Wait(t)
}

// Running is a program that was started and is waited for.
type Running struct {
	Process        *os.Process
	Stdout, Stderr *output
	Ended          chan struct{} // closed when the program has ended

	cmd  *exec.Cmd
	err  error
	took time.Duration
}

// Start starts a lesson or the classroom against endpoint, with further variables. It is
// killed at the end of the test, where it still runs. An empty endpoint is not set.
func Start(t testing.TB, endpoint string, env []string, name string,
	args ...string) *Running {
	t.Helper()
	cmd := exec.Command(Program(t, name), args...)
	if endpoint != "" {
		env = append(env, "ETCDCTL_ENDPOINTS="+endpoint)
	}
	cmd.Env = Env(env...)
	return Command(t, cmd)
}

// Command starts any program as Start does a lesson.
func Command(t testing.TB, cmd *exec.Cmd) *Running {
	t.Helper()
	p := &Running{cmd: cmd, Stdout: newOutput(), Stderr: newOutput(), Ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	began := time.Now()
	etcdtest.NoError(t, start(cmd))
	p.Process = cmd.Process
	go func() {
		p.err = cmd.Wait()
		p.took = time.Since(began)
		close(p.Ended)
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.Ended
	})
	return p
}

// Wait returns how the program ended, and fails the test when it has not within three
// minutes.
func (p *Running) Wait(t testing.TB) Result {
	t.Helper()
	return p.WaitUntil(t, time.Now().Add(3*time.Minute))
}

// WaitUntil is Wait for a time that the caller knows better.
func (p *Running) WaitUntil(t testing.TB, deadline time.Time) Result {
	t.Helper()
	select {
	case <-p.Ended:
	case <-time.After(time.Until(deadline)):
		t.Fatalf("%s does not end; it printed:\n%s%s", p.cmd.Path, p.Stdout, p.Stderr)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return Result{
		Stdout: p.Stdout.String(),
		Stderr: p.Stderr.String(),
		Status: p.cmd.ProcessState.ExitCode(),
		Took:   p.took,
	}
}

// HasEnded reports whether the program has ended.
func (p *Running) HasEnded() bool {
	select {
	case <-p.Ended:
		return true
	default:
		return false
	}
}

// output collects what a program prints and tells when something is in it.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Await returns when text was printed, and fails the test when the program
// ends before or etcdtest.Limit passes.
func (p *Running) Await(t testing.TB, text string) {
	t.Helper()
	etcdtest.NoError(t, p.Printed(text, etcdtest.Limit))
}

// Printed returns nil when text was printed, and an error when the program ends
// without it or the limit passes.
func (p *Running) Printed(text string, limit time.Duration) error {
	over := time.After(limit)
	for {
		p.Stdout.mu.Lock()
		found := strings.Contains(p.Stdout.text.String(), text)
		changed := p.Stdout.changed
		p.Stdout.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-p.Ended:
			if strings.Contains(p.Stdout.String(), text) {
				return nil
			}
			return fmt.Errorf("%s ended without %q:\n%s%s", p.cmd.Path, text, p.Stdout, p.Stderr)
		case <-over:
			return fmt.Errorf("%s does not print %q:\n%s%s", p.cmd.Path, text, p.Stdout, p.Stderr)
		}
	}
}

// Interrupt sends what Ctrl-C at a terminal sends to its program.
func Interrupt(t *testing.T, p *Running) {
	t.Helper()
	etcdtest.NoError(t, process.Interrupt(p.Process))
}
