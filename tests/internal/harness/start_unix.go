//go:build unix

package harness

import "os/exec"

// start starts a program, in the process group of the tests.
func start(cmd *exec.Cmd) error { return cmd.Start() }
