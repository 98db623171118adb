//go:build unix

package process

import (
	"errors"
	"os"
	"syscall"
)

// Interrupt asks p to end, as Ctrl-C does.
func Interrupt(p *os.Process) error { return p.Signal(os.Interrupt) }

// InterruptGroup asks p, which Start started, and all processes of its group to
// end, also when they are paused.
func InterruptGroup(p *os.Process) error {
	switch err := syscall.Kill(-p.Pid, syscall.SIGINT); {
	case errors.Is(err, syscall.ESRCH):
		return os.ErrProcessDone
	case err != nil:
		return err
	}
	return syscall.Kill(-p.Pid, syscall.SIGCONT)
}

// KillGroup ends what is left of the group of p, which Start started.
func KillGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

// Pause stops p until Resume; meanwhile it is there but does not answer.
func Pause(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

// Resume lets p go on after Pause.
func Resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
