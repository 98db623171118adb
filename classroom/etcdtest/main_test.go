//go:build unix

package etcdtest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/tempdir"
)

func TestMain(m *testing.M) { Main(m, nil) }

// endVariable has this program be the tests that end, with the name of the end.
const endVariable = "ETCDTEST_END"

// TestEnds runs tests that have started a member, a program that does not want to end, one
// that has left its parent, and a shell in the background of another. They end in every
// way, and nothing is left of them.
func TestEnds(t *testing.T) {
	if end := os.Getenv(endVariable); end != "" {
		comeToAnEnd(t, end)
		return
	}
	t.Parallel()
	for _, end := range []string{"-timeout", "panic", "kill -9", "kill -9 of go test", "Ctrl-C"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			Reserve(t, 1) // For the tests that end.
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"-test.run=^TestEnds$", "-test.timeout=10m"}
			if end == "-timeout" {
				args[1] = "-test.timeout=10s"
			}
			// The shell is what the go command would be.
			tests := exec.Command("sh", append([]string{"-c", `"$0" "$@"; exit $?`, program}, args...)...)
			done := filepath.Join(t.TempDir(), "done")
			tests.Env = append(os.Environ(), endVariable+"="+end, "DONE="+done)
			tests.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			output, err := tests.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := tests.Start(); err != nil {
				t.Fatal(err)
			}
			// They say which folder they have when all has been started.
			folder := ""
			for lines := bufio.NewScanner(output); folder == "" && lines.Scan(); {
				if text, found := strings.CutPrefix(lines.Text(), "started in "); found {
					folder = text
				}
			}
			if folder == "" {
				t.Fatal("nothing was started")
			}
			switch end {
			case "kill -9 of go test":
				tests.Process.Kill()
			case "Ctrl-C":
				syscall.Kill(-tests.Process.Pid, syscall.SIGINT)
			}
			tests.Wait()
			// The next tests, which begin at once, leave what the keeper still needs.
			next, err := tempdir.Make("", prefix)
			if err != nil {
				t.Fatal(err)
			}
			defer next.Remove()
			for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
				processes := left(folder)
				_, kept := os.Stat(folder)
				_, ran := os.Stat(done)
				if len(processes) == 0 && os.IsNotExist(kept) && ran == nil {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("left: %v; the folder: %v; what is run at the end: %v", processes, kept, ran)
				}
			}
		})
	}
}

// comeToAnEnd starts programs, and ends, or waits for its end.
func comeToAnEnd(t *testing.T, end string) {
	if err := AtEnd("touch '" + os.Getenv("DONE") + "'"); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Start(t.Context(), cluster.Config{}); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{
		`trap "" INT TERM HUP; while :; do sleep 1000; done`,
		`setsid sleep 1000 >/dev/null 2>&1 & exit`,
	} {
		if err := exec.Command("sh", "-c", script).Start(); err != nil {
			t.Fatal(err)
		}
	}
	for sleeping := 0; sleeping < 2; time.Sleep(20 * time.Millisecond) {
		sleeping = 0
		for _, p := range left(os.Getenv(runVariable)) {
			if strings.HasPrefix(p.command, "sleep 1000") {
				sleeping++
			}
		}
	}
	os.Stdout.WriteString("started in " + os.Getenv(runVariable) + "\n")
	switch end {
	case "panic":
		panic("an end")
	case "kill -9":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	select {}
}

// TestLeftBehind has tests that pass leave a process: then they do not pass.
func TestLeftBehind(t *testing.T) {
	if os.Getenv(endVariable) != "" {
		if err := exec.Command("sleep", "1000").Start(); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := exec.Command(program, "-test.run=^TestLeftBehind$")
	tests.Env = append(os.Environ(), endVariable+"=by itself")
	output, err := tests.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "have left these processes") || !strings.Contains(string(output), "sleep 1000") {
		t.Errorf("%v\n%s", err, output)
	}
}

// TestReserve has two tests want most of the places: they get them in turn.
func TestReserve(t *testing.T) {
	ran := 0
	t.Run("together", func(t *testing.T) {
		for _, name := range []string{"one", "other"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				Reserve(t, Places()-1)
				reserved.Lock()
				defer reserved.Unlock()
				ran++
				if len(reserved.members) != 1 {
					t.Errorf("places are had by %v", reserved.members)
				}
			})
		}
	})
	if ran != 2 {
		t.Errorf("%d tests had places", ran)
	}
}

// TestParts has a test with places wait for its own part, beside one that wants all places,
// when one test is to run at a time.
func TestParts(t *testing.T) {
	if os.Getenv(endVariable) != "" {
		has := make(chan struct{})
		t.Run("with a part", func(t *testing.T) {
			t.Parallel()
			Reserve(t, 1)
			close(has)
			t.Run("part", func(t *testing.T) { t.Parallel() })
		})
		t.Run("all", func(t *testing.T) {
			t.Parallel()
			<-has
			Reserve(t, Places())
		})
		return
	}
	t.Parallel()
	program, err := os.Executable()
	NoError(t, err)
	tests := exec.Command(program, "-test.run=^TestParts$", "-test.parallel=1", "-test.timeout=5m")
	tests.Env = append(os.Environ(), endVariable+"=by itself")
	if output, err := tests.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
