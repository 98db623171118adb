package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/process"
)

// tour runs the lessons named, or all, one after the other, against the etcd
// that ETCDCTL_ENDPOINTS names, or else one of its own. It returns an error
// that names the lessons that failed.
func tour(ctx context.Context, names []string) error {
	if len(names) == 0 {
		names = course.Names
	}
	for _, name := range names {
		if !slices.Contains(course.Names, name) {
			return fmt.Errorf("unknown lesson %q; the lessons are %s",
				name, strings.Join(course.Names, ", "))
		}
	}
	root, err := course.Root(ctx)
	if err != nil {
		return err
	}

	env := os.Environ()
	if os.Getenv("ETCDCTL_ENDPOINTS") == "" {
		starting, cancel := context.WithTimeout(ctx, startLimit)
		defer cancel()
		etcd, err := cluster.Start(starting, cluster.Config{})
		if err != nil {
			return err
		}
		defer etcd.Close()
		env = lessonEnv(etcd.Endpoints())
	}

	var failed []string
	for _, name := range names {
		fmt.Printf("── %s ──\n", name)
		if err := runLesson(ctx, root, name, env); err != nil {
			failed = append(failed, fmt.Sprintf("%s (%v)", name, err))
		}
		if ctx.Err() != nil {
			return errors.New("the tour was interrupted in " + name)
		}
		fmt.Println()
	}
	fmt.Printf("%d lessons, %d ok\n", len(names), len(names)-len(failed))
	if len(failed) > 0 {
		return errors.New("failed: " + strings.Join(failed, ", "))
	}
	return nil
}

// lessonEnv is the environment of lessons that are to use the etcd at these
// endpoints. Users and certificates belong to some other etcd.
func lessonEnv(endpoints []string) []string {
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "ETCDCTL_")
	})
	return append(env, "ETCDCTL_ENDPOINTS="+strings.Join(endpoints, ","))
}

// runLesson builds and runs one lesson with its output on ours. When ctx ends,
// the lesson is asked to end, so that it cleans up.
func runLesson(ctx context.Context, root, name string, env []string) error {
	program, err := course.Build(ctx, root, name, os.Stderr)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = root, env, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return process.InterruptGroup(cmd.Process) }
	cmd.WaitDelay = 10 * time.Second
	if err := process.Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}
