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

// Pause stops p, a child of this process, until Resume; meanwhile it is there but
// does not answer. On Linux it returns when p has stopped; elsewhere p may go on
// for a moment.
func Pause(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return awaitStop(p)
}

// Resume lets p go on after Pause.
func Resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
