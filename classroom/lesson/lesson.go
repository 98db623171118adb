// Package lesson finds and builds the lessons of the course.
package lesson

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"example.com/etcd-by-example/classroom/internal/process"
)

// Names are the lessons in the order of the course. Each is a folder of the
// repository.
var Names = []string{
	"01-connect", "02-put", "03-get", "04-delete",
	"05-lease", "06-watch", "07-op", "08-txn-lock",
}

// Root returns the folder of go.work, in which the lessons are.
func Root(ctx context.Context) (string, error) {
	file, err := exec.CommandContext(ctx, "go", "env", "GOWORK").Output()
	if err != nil {
		return "", fmt.Errorf("run go env GOWORK: %w", err)
	}
	name := strings.TrimSpace(string(file))
	if name == "" || name == "off" {
		return "", errors.New("no go.work found: run it inside the repository")
	}
	return filepath.Dir(name), nil
}

// Build returns the path of a lesson's program, built from its source as it is
// now; what the compiler says goes to output. The program lies in a folder that
// stays, so that go build has nothing to do when the source has not changed; go
// run would not do, because a signal to it does not reach the lesson.
func Build(ctx context.Context, root, name string, output io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for built lessons: %w", err)
	}
	clone := fnv.New64a() // Two clones must not build over each other.
	clone.Write([]byte(root))
	program := filepath.Join(cache, "etcd-by-example",
		fmt.Sprintf("%016x", clone.Sum64()), name)
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./"+name)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, output, output
	// The compiler removes its temporary files when it is asked to end.
	cmd.Cancel = func() error { return process.InterruptGroup(cmd.Process) }
	cmd.WaitDelay = 5 * time.Second
	if err := process.Start(cmd); err != nil {
		return "", fmt.Errorf("build it: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("build it: %w", err)
	}
	return program, nil
}
