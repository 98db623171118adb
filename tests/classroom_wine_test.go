//go:build linux && amd64

package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// Where Debian has wine. Its command wine wants the 32 bits as well.
const (
	wineLoader  = "/usr/lib/wine/wine64"
	wineServer  = "/usr/lib/wine/wineserver64"
	wineSystem  = "/usr/lib/x86_64-linux-gnu/wine/x86_64-windows"
	mingwForGCC = "x86_64-w64-mingw32-gcc"
)

// windows is a Windows, as far as wine is one, with the course's programs for it.
type windows struct {
	t      *testing.T
	folder string // has its drive C and the programs
	env    []string
}

// newWindows returns a Windows that ends with the test. Nothing of it is set up but the
// system's own libraries, which takes a moment; wine's way takes 700 MB.
func newWindows(t *testing.T) *windows {
	t.Helper()
	for _, file := range []string{wineLoader, wineServer, wineSystem} {
		if _, err := os.Stat(file); err != nil {
			etcdtest.SkipUnlessCI(t, "this test needs wine64 of Debian: "+err.Error())
		}
	}
	if _, err := exec.LookPath(mingwForGCC); err != nil {
		etcdtest.SkipUnlessCI(t, "this test needs gcc-mingw-w64-x86-64 of Debian: "+err.Error())
	}
	w := &windows{t: t, folder: t.TempDir()}
	system := w.path("drive_c", "windows", "system32")
	etcdtest.NoError(t, os.MkdirAll(system, 0o700))
	etcdtest.NoError(t, os.Mkdir(w.path("dosdevices"), 0o700))
	etcdtest.NoError(t, os.Symlink("../drive_c", w.path("dosdevices", "c:")))
	etcdtest.NoError(t, os.Symlink("/", w.path("dosdevices", "z:")))
	etcdtest.NoError(t, os.WriteFile(w.path(".update-timestamp"), []byte("disable"), 0o600))
	libraries, err := os.ReadDir(wineSystem)
	etcdtest.NoError(t, err)
	const random = "bcryptprimitives.dll"
	for _, library := range libraries {
		if library.Name() != random {
			etcdtest.NoError(t, os.Symlink(filepath.Join(wineSystem, library.Name()), filepath.Join(system, library.Name())))
		}
	}
	// Go reads random numbers by a function that older releases of wine lack.
	prng := exec.Command(mingwForGCC, "-shared", "-O2", "-x", "c", "-", "-o", filepath.Join(system, random), "-ladvapi32")
	prng.Stdin = strings.NewReader(`#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return SystemFunction036(data, size); }
`)
	output, err := prng.CombinedOutput()
	if err != nil {
		t.Fatalf("build what wine lacks: %v\n%s", err, output)
	}

	outside := httptest.NewServer(http.HandlerFunc(w.runGo))
	t.Cleanup(outside.Close)
	w.env = harness.Env("WINEPREFIX="+w.folder, "WINEDEBUG=-all", "WINEPATH="+inside(w.path("bin")),
		"GO_OUTSIDE="+outside.URL, "GOMAXPROCS=1")
	// The first program starts wine's server and services, which keep its output open.
	w.wine(wineServer, "-p")
	t.Cleanup(func() { w.wine(wineServer, "-k", "-w") })
	w.wine(wineLoader, "hostname.exe")
	etcdtest.NoError(t, os.Mkdir(w.path("bin"), 0o700))
	output, err = goCommand(t.Context(), harness.Root, "build", "-o", w.path("bin")+"/", "./classroom", "./tests/testdata/wine-go").CombinedOutput()
	if err != nil {
		t.Fatalf("build for Windows: %v\n%s", err, output)
	}
	etcdtest.NoError(t, os.Rename(w.path("bin", "wine-go.exe"), w.path("bin", "go.exe")))
	return w
}

func (w *windows) path(parts ...string) string {
	return filepath.Join(append([]string{w.folder}, parts...)...)
}

// inside returns the name that a file has in Windows, and outside the other way round.
func inside(name string) string { return `Z:` + strings.ReplaceAll(name, "/", `\`) }

func (w *windows) outside(text string) string {
	text = strings.ReplaceAll(text, `Z:\`, "/")
	text = strings.ReplaceAll(text, `C:\`, w.path("drive_c")+"/")
	return strings.ReplaceAll(text, `\`, "/")
}

// goCommand returns the go command, which builds for Windows.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOOS=windows")
	return cmd
}

// runGo runs the go command for tests/testdata/wine-go.
func (w *windows) runGo(answer http.ResponseWriter, request *http.Request) {
	var asked struct {
		Dir, GOWORK string
		Args        []string
	}
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	for i, arg := range asked.Args {
		asked.Args[i] = w.outside(arg)
	}
	cmd := goCommand(request.Context(), w.outside(asked.Dir), asked.Args...)
	cmd.Env = append(cmd.Env, "GOWORK="+w.outside(asked.GOWORK))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Run() // Its status says how it has ended.
	said := stdout.String()
	if asked.Args[0] == "env" {
		said = inside(said)
	}
	json.NewEncoder(answer).Encode(map[string]any{"Stdout": said, "Stderr": stderr.String(), "Status": cmd.ProcessState.ExitCode()})
}

// wine runs a program of wine's own.
func (w *windows) wine(name string, args ...string) {
	w.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = w.env
	if err := cmd.Run(); err != nil {
		w.t.Errorf("%s %v: %v", name, args, err)
	}
}

// start starts the classroom in a folder.
func (w *windows) start(t *testing.T, dir string, args ...string) *harness.Running {
	t.Helper()
	cmd := exec.Command(wineLoader, append([]string{w.path("bin", "classroom.exe")}, args...)...)
	cmd.Dir, cmd.Env = dir, w.env
	return harness.Command(t, cmd)
}

// run runs the classroom to its end, which has to have a status and print the words.
func (w *windows) run(t *testing.T, dir string, status int, args, words []string) {
	t.Helper()
	got := w.start(t, dir, args...).Wait(t)
	said := got.Stdout + got.Stderr
	if got.Status != status {
		t.Errorf("classroom %s: status %d, not %d:\n%s", strings.Join(args, " "), got.Status, status, said)
	}
	for _, word := range words {
		if !strings.Contains(said, word) {
			t.Errorf("classroom %s does not say %q:\n%s", strings.Join(args, " "), word, said)
		}
	}
}

// interrupted ends a program by Ctrl-C, and fails the test when it does not say so.
func interrupted(t *testing.T, p *harness.Running, words string) {
	t.Helper()
	harness.Interrupt(t, p)
	if got := p.Wait(t); got.Status != 0 || got.Stderr != "" || !strings.Contains(got.Stdout, words) {
		t.Errorf("after Ctrl-C: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
}

// TestWindows runs the classroom, all lessons, a check, and a class with a learner as
// programs for Windows, under wine.
func TestWindows(t *testing.T) {
	etcdtest.NeedsLong(t, "it links all for Windows")
	t.Parallel()
	etcdtest.Reserve(t, 6) // A check has three on one processor.
	w := newWindows(t)
	t.Run("at once", func(t *testing.T) {
		t.Run("classroom", func(t *testing.T) { t.Parallel(); w.members(t) })
		t.Run("tour", func(t *testing.T) {
			t.Parallel()
			w.run(t, harness.Root, 0, []string{"tour"}, []string{"\n8 lessons, 8 ok\n"})
		})
		t.Run("check", func(t *testing.T) { t.Parallel(); w.check(t) })
		t.Run("class", func(t *testing.T) { t.Parallel(); w.class(t) })
	})
	left, err := filepath.Glob(w.path("drive_c", "users", "*", "classroom*"))
	etcdtest.NoError(t, err)
	sockets, err := filepath.Glob(w.path("drive_c", "users", "*", "AppData", "Local", "etcd-by-example", "*.sock"))
	etcdtest.NoError(t, err)
	if left = append(left, sockets...); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// members kills a classroom, and then acts on the members of another one, and ends it.
func (w *windows) members(t *testing.T) {
	port := strconv.Itoa(harness.FreePorts(t, 2))
	start := func() (etcd *harness.Running, data string) {
		etcd = w.start(t, harness.Root, "-port", port, "-board", "127.0.0.1:0")
		etcd.Await(t, "Ctrl-C stops it.")
		return etcd, w.path("drive_c", "users", "*", regexp.MustCompile(`classroom-\d+`).FindString(etcd.Stdout.String()))
	}
	etcd, data := start()
	etcdtest.NoError(t, etcd.Process.Kill())
	etcdtest.Eventually(t, "the member ends with its classroom", func() bool {
		connection, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			connection.Close()
		}
		return err != nil
	})
	if found, _ := filepath.Glob(data); len(found) != 1 {
		t.Errorf("the killed classroom had no folder %s", data)
	}
	etcd, _ = start()
	if found, _ := filepath.Glob(data); len(found) != 0 {
		t.Errorf("the next one leaves what the killed one has left: %v", found)
	}
	say := func(status int, words string, args ...string) {
		t.Helper()
		w.run(t, harness.Root, status, append([]string{"-port", port}, args...), []string{words})
	}
	say(0, "etcd1, leader, 127.0.0.1:"+port, "member", "list")
	say(1, "Windows cannot pause a process", "member", "pause", "etcd1")
	say(0, "etcd1, stopped", "member", "kill", "etcd1")
	say(0, "etcd1, leader", "member", "restart", "etcd1")
	say(0, "The store is empty, at revision 1.", "reset")
	say(1, "an etcd 3.", "-board", "off")
	interrupted(t, etcd, "etcd has stopped.")
	say(1, "no classroom runs on port "+port, "reset")
}

// check does what a learner does with an exercise, which is one without a Ctrl-C: here
// there is no console, by which the judge would send it, and it says so.
func (w *windows) check(t *testing.T) {
	desk := t.TempDir()
	for _, module := range []string{"exercises", "shared"} {
		etcdtest.NoError(t, os.CopyFS(filepath.Join(desk, module), os.DirFS(filepath.Join(harness.Root, module))))
	}
	etcdtest.NoError(t, os.WriteFile(filepath.Join(desk, "go.work"), []byte("go 1.26.0\n\nuse (\n\t./exercises\n\t./shared\n)\n"), 0o600))
	w.run(t, desk, 0, []string{"check", "start", "04"}, []string{"Your copy is my/04-delete/main.go"})
	w.run(t, desk, 1, []string{"check", "04"}, []string{"04-delete is refused in the round"})
	w.run(t, desk, 0, []string{"check", "hint", "04"}, []string{"Hint 1 of 3:"})
	w.run(t, desk, 0, []string{"check", "solution", "04", "-give-up"}, []string{"my/04-delete/solution/main.go"})
	etcdtest.NoError(t, os.Rename(filepath.Join(desk, "my/04-delete/solution/main.go"), filepath.Join(desk, "my/04-delete/main.go")))
	w.run(t, desk, 0, []string{"check", "04"}, []string{"✓ 04-delete: passed "})
	w.run(t, desk, 0, []string{"check", "start", "06"}, nil)
	w.run(t, desk, 0, []string{"check", "solution", "06", "-give-up"}, nil)
	etcdtest.NoError(t, os.Rename(filepath.Join(desk, "my/06-mirror/solution/main.go"), filepath.Join(desk, "my/06-mirror/main.go")))
	w.run(t, desk, 3, []string{"check", "06"}, []string{"the judge failed, which says nothing of your program", "press Ctrl-Break at the console"})
}

// class has a learner join a class.
func (w *windows) class(t *testing.T) {
	port := harness.FreePorts(t, 8) + 2
	teacher := strconv.Itoa(port)
	class := w.start(t, harness.Root, "-class", "-port", teacher, "-board", "off")
	class.Await(t, "Ctrl-C ends the class.")
	found := regexp.MustCompile(`go run \./classroom join \S+/(\S+) NAME`).FindStringSubmatch(class.Stdout.String())
	if found == nil {
		t.Fatalf("it does not tell how to join:\n%s", class.Stdout)
	}
	at := strconv.Itoa(port + 5)
	desk := w.start(t, harness.Root, "join", "127.0.0.1:"+strconv.Itoa(port-1)+"/"+found[1], "ann", "-port", at)
	desk.Await(t, "Ctrl-C leaves.")
	got := harness.Run(t, "127.0.0.1:"+at, nil, "02-put")
	if got.Status != 0 {
		t.Errorf("at a desk: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	w.run(t, harness.Root, 0, []string{"class", "list", "-port", teacher}, []string{"ann, here, keys: 1,"})
	w.run(t, harness.Root, 0, []string{"reset", "-port", at}, []string{"Your keys are gone."})
	w.run(t, harness.Root, 1, []string{"-port", at, "-board", "off"}, []string{"your desk in a class listens on"})
	interrupted(t, desk, "ann leaves the class.")
	interrupted(t, class, "etcd has stopped.")
}
