//go:build unix

package etcdtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.com/etcd-by-example/classroom/tempdir"
)

// keeperVariable marks a process that was started as the keeper, and runVariable all
// processes of the tests, and those that they start, with the tests' temporary folder.
const (
	keeperVariable = "ETCDTEST_KEEPER"
	runVariable    = "TESTS_IN"
)

// atEnd is the name of the shell script, in the tests' folder, that the keeper runs.
const atEnd = "at-end.sh"

// allEnded is what the keeper reads when the tests have ended by themselves. Anything
// else that ends its input is another end.
const allEnded = "ended"

// keeper is a process that outlives the tests, and ends what they leave.
type keeper struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	said  bytes.Buffer
}

// startKeeper starts the keeper of the tests that have the folder.
func startKeeper(folder *tempdir.Dir) (*keeper, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	k := &keeper{cmd: exec.Command(program, buildFolder(), strconv.Itoa(os.Getppid()))}
	// Its output is no file of the tests' own: the go command would wait for it.
	k.cmd.Stdout = &k.said
	// Tests that tests have started have a keeper that nobody else ends.
	k.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, runVariable+"=")
	}), keeperVariable+"="+folder.Path)
	folder.Lend(k.cmd)
	// Ctrl-C at a terminal does not reach it.
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if k.input, err = k.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	if err := k.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	os.Setenv(runVariable, folder.Path)
	return k, nil
}

// end has the keeper look for what is left. An error says what that was.
func (k *keeper) end() error {
	io.WriteString(k.input, allEnded)
	k.input.Close()
	err := k.cmd.Wait()
	if k.said.Len() > 0 {
		return fmt.Errorf("the tests have left these processes, which were killed:\n%s", &k.said)
	}
	return err
}

// AtEnd has a command line of sh run when the tests have ended, however they do, and
// when all their processes have. It is for what is no process: containers and mounts.
// The command may find that there is nothing left to do.
func AtEnd(command string) error {
	script := filepath.Join(os.Getenv(runVariable), atEnd)
	file, err := os.OpenFile(script, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("note what to do at the end: %w", err)
	}
	_, err = io.WriteString(file, command+"\n")
	return errors.Join(err, file.Close())
}

// keeperMain turns the process into the keeper when it was started as one, and does not
// return then.
func keeperMain() {
	folder := os.Getenv(keeperVariable)
	if folder == "" {
		return
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	word, _ := io.ReadAll(os.Stdin)
	if string(word) == allEnded {
		// What was told to end may need a moment.
		for limit := time.Now().Add(10 * time.Second); len(left(folder)) > 0 && time.Now().Before(limit); {
			time.Sleep(100 * time.Millisecond)
		}
		for _, p := range left(folder) {
			fmt.Println(p.pid, p.command)
		}
	}
	// A process that is just being started is found the next time.
	for none, limit := 0, time.Now().Add(20*time.Second); none < 3 && time.Now().Before(limit); none++ {
		for _, p := range left(folder) {
			syscall.Kill(p.pid, syscall.SIGKILL)
			none = -1
		}
		time.Sleep(20 * time.Millisecond)
	}
	script := exec.Command("sh", filepath.Join(folder, atEnd))
	script.Run()
	os.RemoveAll(folder)
	if built, parent := os.Args[1], os.Args[2]; built != "" {
		if pid, err := strconv.Atoi(parent); err == nil && syscall.Kill(pid, 0) != nil {
			os.RemoveAll(built)
		}
	}
	os.Exit(0)
}

// process is one that the tests have started, or one of those did.
type process struct {
	pid     int
	command string
}

// left returns the processes that have the folder in their environment.
func left(folder string) (all []process) {
	mark := runVariable + "=" + folder
	if runtime.GOOS == "linux" {
		files, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, name := range files {
			environ, err := os.ReadFile(name)
			if err != nil || !slices.Contains(strings.Split(string(environ), "\x00"), mark) {
				continue
			}
			command, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			all = append(all, process{pid, strings.ReplaceAll(string(command), "\x00", " ")})
		}
		return all
	}
	// With E, ps shows the environment behind the command.
	list, _ := exec.Command("ps", "-axEww", "-o", "pid=,command=").Output()
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if !slices.Contains(fields, mark) {
			continue
		}
		if pid, err := strconv.Atoi(fields[0]); err == nil {
			all = append(all, process{pid, strings.Join(fields[1:min(len(fields), 20)], " ")})
		}
	}
	return all
}
