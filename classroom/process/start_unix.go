//go:build unix && !linux

package process

import (
	"os"
	"os/exec"
	"syscall"
)

// Start starts cmd as the leader of a process group of its own. When this
// program ends while cmd is paused, the system sends that group SIGHUP and
// SIGCONT, so that it ends as well (POSIX, _Exit, "Consequences").
func Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd.Start()
}

func awaitStop(*os.Process) error { return nil }
