package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// starter runs functions on a thread that lives as long as the program. Linux
// sends a process its death signal when the thread that started it ends, and
// the Go runtime ends threads as it likes.
var starter = sync.OnceValue(func() chan<- func() {
	functions := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range functions {
			f()
		}
	}()
	return functions
})

// Start starts cmd as the leader of a process group of its own. The system
// kills it when this program ends, however that happens, also while it is
// paused (prctl(2), PR_SET_PDEATHSIG).
func Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

// awaitStop returns when p has stopped. A signal only asks for it: on a busy
// machine the threads of p may go on until each has had its turn.
func awaitStop(p *os.Process) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		var stopped unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.Pid, &stopped,
			unix.WSTOPPED|unix.WNOWAIT|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return os.ErrProcessDone
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait until it stops: %w", err)
		case err == nil && stopped.Signo != 0:
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("it does not stop")
}
