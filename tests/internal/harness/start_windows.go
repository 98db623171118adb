package harness

import (
	"os/exec"

	"example.com/etcd-by-example/classroom/process"
)

// start starts a program so that Interrupt reaches it alone.
func start(cmd *exec.Cmd) error { return process.Start(cmd) }
