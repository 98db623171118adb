//go:build !unix

package process

import (
	"errors"
	"os"
	"os/exec"
)

// Start starts cmd. This system has no process groups.
func Start(cmd *exec.Cmd) error { return cmd.Start() }

// Interrupt ends p at once: this system cannot ask it to end.
func Interrupt(p *os.Process) error { return p.Kill() }

// InterruptGroup ends p at once; what p started goes on.
func InterruptGroup(p *os.Process) error { return p.Kill() }

// KillGroup ends p at once; what p started goes on.
func KillGroup(p *os.Process) error { return p.Kill() }

// Pause returns an error that wraps errors.ErrUnsupported.
func Pause(*os.Process) error { return errors.ErrUnsupported }

// Resume returns an error that wraps errors.ErrUnsupported.
func Resume(*os.Process) error { return errors.ErrUnsupported }
