// Package tests checks the course from outside: the commands that README.md
// shows, the lessons as programs, and etcd under them, always in processes of
// its own.
package tests

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/cluster"
)

// root is the repository, seen from the folder that tests run in.
const root = ".."

var lessons = []string{
	"01-connect", "02-put", "03-get", "04-delete",
	"05-lease", "06-watch", "07-op", "08-txn-lock",
}

// built is a folder for what the tests build, which goes with this process.
var built string

func TestMain(m *testing.M) {
	cluster.Main()
	flag.Parse()
	flag.Set("test.parallel", "1000") // See parallel.
	var err error
	if built, err = os.MkdirTemp("", "built-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built)
	if standIn != "" {
		exec.Command("docker", "image", "rm", "--force", standIn).Run()
	}
	os.Exit(code)
}

// slots bounds how many tests run side by side. They wait more than they compute.
var slots = make(chan struct{}, 4)

// parallel has a test run beside others, when a slot is free. t.Parallel alone is
// for tests of which only the parallel subtests need one, for TestTour, which waits
// for its lessons, and for TestPages, which must not wait for a slot: it follows the
// pages in real time. A test that from some point on only waits calls leave there,
// and gives its slot to another.
func parallel(t *testing.T) (leave func()) {
	t.Helper()
	t.Parallel()
	slots <- struct{}{}
	leave = sync.OnceFunc(func() { <-slots })
	t.Cleanup(leave)
	return leave
}

// startEtcd starts members for one test and ends them with it.
func startEtcd(t testing.TB, config cluster.Config) *cluster.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	etcd, err := cluster.Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	return etcd
}

// connect returns a client of the endpoints, closed with the test.
func connect(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints,
		Logger:    zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// soon returns a context that ends before anybody would call a test hung.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// programs builds all lessons and the classroom, together.
var programs = sync.OnceValue(func() error {
	// Linking takes half the time without what debuggers read.
	args := []string{"build", "-ldflags=-s -w", "-o", built + string(filepath.Separator)}
	for _, name := range append(lessons, "classroom") {
		args = append(args, "./"+name)
	}
	build := exec.Command("go", args...)
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the lessons: %w\n%s", err, output)
	}
	return nil
})

// program returns the path of a built lesson, or of the classroom.
func program(t testing.TB, name string) string {
	t.Helper()
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(built, name)
}

// plainEnv is the environment without what points programs at some etcd, plus
// the variables given as name=value.
func plainEnv(variables ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "ETCD")
	})
	return append(env, variables...)
}

// result is how a program ended.
type result struct {
	stdout, stderr string
	status         int
	took           time.Duration
}

// run runs a lesson or the classroom against endpoint, with further variables,
// and fails the test when it does not end within three minutes: a tour has to
// link the lessons first when the build cache is empty.
func run(t testing.TB, endpoint string, env []string, name string,
	args ...string) result {
	t.Helper()
	return start(t, endpoint, env, name, args...).wait(t)
}

// running is a program that was started and is waited for.
type running struct {
	*exec.Cmd
	stdout, stderr *output
	ended          chan struct{} // closed when the program has ended
	err            error
	took           time.Duration
}

func start(t testing.TB, endpoint string, env []string, name string,
	args ...string) *running {
	t.Helper()
	p := &running{
		Cmd:    exec.Command(program(t, name), args...),
		stdout: newOutput(),
		stderr: newOutput(),
		ended:  make(chan struct{}),
	}
	if endpoint != "" {
		env = append(env, "ETCDCTL_ENDPOINTS="+endpoint)
	}
	p.Env, p.Stdout, p.Stderr = plainEnv(env...), p.stdout, p.stderr
	began := time.Now()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.Wait()
		p.took = time.Since(began)
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *running) wait(t testing.TB) result {
	t.Helper()
	return p.waitUntil(t, time.Now().Add(3*time.Minute))
}

func (p *running) waitUntil(t testing.TB, deadline time.Time) result {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Until(deadline)):
		t.Fatalf("%s does not end; it printed:\n%s%s", p.Path, p.stdout, p.stderr)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return result{
		stdout: p.stdout.String(),
		stderr: p.stderr.String(),
		status: p.ProcessState.ExitCode(),
		took:   p.took,
	}
}

func (p *running) hasEnded() bool {
	select {
	case <-p.ended:
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

// await returns when text was printed, and fails the test when the program
// ends before or half a minute passes.
func (p *running) await(t testing.TB, text string) {
	t.Helper()
	if err := p.printed(text, 30*time.Second); err != nil {
		t.Fatal(err)
	}
}

// printed returns nil when text was printed, and an error when the program ends
// without it or the limit passes.
func (p *running) printed(text string, limit time.Duration) error {
	over := time.After(limit)
	for {
		p.stdout.mu.Lock()
		found := strings.Contains(p.stdout.text.String(), text)
		changed := p.stdout.changed
		p.stdout.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-p.ended:
			if strings.Contains(p.stdout.String(), text) {
				return nil
			}
			return fmt.Errorf("%s ended without %q:\n%s%s", p.Path, text, p.stdout, p.stderr)
		case <-over:
			return fmt.Errorf("%s does not print %q:\n%s%s", p.Path, text, p.stdout, p.stderr)
		}
	}
}

// eventually fails the test when condition does not become true within limit.
func eventually(t testing.TB, limit time.Duration, what string,
	condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
