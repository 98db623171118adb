package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/version"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// ComposeCommands returns the ways to call Compose on this machine, v2 first. It skips
// the test where no Docker engine answers, which CI may lack as well, or where there is
// an engine without Compose.
func ComposeCommands(t *testing.T) (commands [][]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), etcdtest.Limit)
	defer cancel()
	output, err := exec.CommandContext(ctx, "docker", "info").CombinedOutput()
	if err != nil {
		etcdtest.Skip(t, fmt.Sprintf("no Docker engine answers: %v %s", err, output))
	}
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		args := append(command[1:], "version")
		if exec.CommandContext(ctx, command[0], args...).Run() == nil {
			commands = append(commands, command)
		}
	}
	if len(commands) == 0 {
		etcdtest.SkipUnlessCI(t, "a Docker engine answers, but there is no Compose")
	}
	return commands
}

// EtcdImage makes sure that there is an image for docker-compose.yml: the official
// one where it is there or can be pulled, otherwise one built from etcd's own
// modules with the same content. That is done once for all tests.
func EtcdImage(t *testing.T) {
	t.Helper()
	etcdtest.NoError(t, findImage())
}

var findImage = sync.OnceValue(func() error {
	name := "quay.io/coreos/etcd:v" + version.Version
	if exec.Command("docker", "image", "inspect", name).Run() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if exec.CommandContext(ctx, "docker", "pull", "--quiet", name).Run() == nil {
		return nil
	}
	// An image goes after what runs from it.
	remove := fmt.Sprintf("docker ps --all --quiet --filter ancestor=%s | xargs -r docker rm --force --volumes; docker image rm --force %[1]s", name)
	if err := etcdtest.AtEnd(remove); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for program, path := range map[string]string{
		"etcd":    "go.etcd.io/etcd/server/v3",
		"etcdctl": "go.etcd.io/etcd/etcdctl/v3",
	} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, program), path)
		build.Dir = Root
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", path, err, output)
		}
	}
	recipe := "FROM scratch\nCOPY etcd etcdctl /usr/local/bin/\n" +
		`CMD ["/usr/local/bin/etcd"]` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(recipe), 0o600); err != nil {
		return err
	}
	build := exec.Command("docker", "build", "--quiet", "--tag", name, dir)
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the image: %w\n%s", err, output)
	}
	return nil
})

// Compose runs a Compose command and returns what it prints to stdout.
func Compose(t *testing.T, command []string, project string, args ...string) string {
	t.Helper()
	args = append([]string{"--project-name", project}, args...)
	return tool(t, command[0], append(command[1:], args...)...)
}

// ComposeDown removes the containers, networks and volumes of both shapes. A test that
// brings them up calls ComposeAtEnd as well, for when it does not get there.
func ComposeDown(t *testing.T, command []string, project string) {
	t.Helper()
	Compose(t, command, project, "--profile", "single", "--profile", "cluster",
		"down", "--volumes", "--timeout", "5")
}

// ComposeAtEnd has what Compose made for a project removed when the tests have ended.
func ComposeAtEnd(t *testing.T, project string) {
	t.Helper()
	of := " --filter label=com.docker.compose.project=" + project
	for _, command := range []string{
		"docker ps --all --quiet" + of + " | xargs -r docker rm --force --volumes",
		"docker network ls --quiet" + of + " | xargs -r docker network rm",
		"docker volume ls --quiet" + of + " | xargs -r docker volume rm --force",
	} {
		etcdtest.NoError(t, etcdtest.AtEnd(command))
	}
}

// Docker runs docker and returns what it prints to stdout.
func Docker(t *testing.T, args ...string) string {
	t.Helper()
	return tool(t, "docker", args...)
}

// tool runs a program in the repository, for at most two minutes. It outlives
// the end of the test, so that it can also clean up.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = Root, Env(), &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, &stderr)
	}
	return strings.TrimSpace(string(output))
}
