package process

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
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
