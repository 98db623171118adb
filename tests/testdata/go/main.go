// Go stands in for the go command when the tests play a page: what the page has it build
// and run was built before, by the real one, and is run at once. It prints what the real
// one would, and hands everything else on to that.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	// The folder of the built programs, and the real go command.
	built, real := os.Getenv("PLAY_BUILT"), os.Getenv("PLAY_GO")
	args := os.Args[1:]
	program, tool := find(built, args)
	if program == "" {
		err := syscall.Exec(real, append([]string{"go"}, args...), os.Environ())
		fmt.Fprintln(os.Stderr, "go:", err)
		os.Exit(1)
	}
	cmd := exec.Command(program, args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Ctrl-C at a terminal reaches the program as well, which decides what to do.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGQUIT)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case tool != "":
		if errors.As(err, &exit) && !exit.Exited() {
			fmt.Fprintf(os.Stderr, "go tool %s: %v\n", tool, err)
		}
		os.Exit(cmd.ProcessState.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// find returns the built program that the go command is to run, or "", and the tool's
// name when it is one.
func find(built string, args []string) (program, tool string) {
	if len(args) < 2 {
		return "", ""
	}
	name := args[1]
	switch {
	case args[0] == "tool" && name == "etcdctl":
		return filepath.Join(built, name), name
	case args[0] == "run" && strings.HasPrefix(name, "go.etcd.io/etcd/server/"):
		return filepath.Join(built, "server"), ""
	case args[0] == "run" && strings.HasPrefix(name, "./"):
		program = filepath.Join(built, filepath.Base(name))
		if _, err := os.Stat(program); err == nil {
			return program, ""
		}
	}
	return "", ""
}
