package tests

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/version"
)

// TestCompose runs the tour against both shapes of docker-compose.yml, with
// every Compose that there is.
func TestCompose(t *testing.T) {
	if !*long {
		t.Skip("README.md's commands bring up both shapes; " +
			"run the tour in them with: go test -count=1 ./tests -long -timeout 1h")
	}
	t.Parallel()
	commands, why := composeCommands()
	if len(commands) == 0 {
		t.Skip(why)
	}
	takeUsualPort(t)
	image(t)
	for _, command := range commands {
		for _, shape := range []struct {
			name, endpoints string
			flags, services []string
		}{
			{"one member", "127.0.0.1:2379", nil, []string{"etcd"}},
			{"three members", "127.0.0.1:2379,127.0.0.1:2381,127.0.0.1:2383",
				[]string{"--profile", "cluster"}, []string{"etcd1", "etcd2", "etcd3"}},
		} {
			t.Run(strings.Join(command, " ")+", "+shape.name, func(t *testing.T) {
				const project = "etcd-by-example-test"
				t.Cleanup(func() { down(t, command, project) })
				compose(t, command, project, append(shape.flags, "up", "-d")...)
				for _, service := range shape.services {
					id := compose(t, command, project,
						append(shape.flags, "ps", "-q", service)...)
					eventually(t, time.Minute, service+" is healthy", func() bool {
						return docker(t, "inspect", "--format",
							"{{.State.Health.Status}}", id) == "healthy"
					})
					for address := range strings.Lines(docker(t, "port", id)) {
						if !strings.Contains(address, "-> 127.0.0.1:") {
							t.Errorf("%s is published beyond this machine: %s", service, address)
						}
					}
				}
				running := strings.Fields(compose(t, command, project,
					append(shape.flags, "ps", "-q")...))
				if len(running) != len(shape.services) {
					t.Errorf("containers: %q, want %q", running, shape.services)
				}
				members, err := connect(t, strings.Split(shape.endpoints, ",")...).
					MemberList(soon(t))
				if err != nil || len(members.Members) != len(shape.services) {
					t.Errorf("members: %v, %v", members, err)
				}
				got := run(t, shape.endpoints, nil, "classroom", "tour")
				if got.status != 0 {
					t.Errorf("the tour: status %d\n%s%s", got.status, got.stdout, got.stderr)
				}
			})
		}
	}
}

// composeCommands returns the ways to call Compose on this machine, v2 first.
// Without any, it returns the reason.
func composeCommands() (commands [][]string, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, "docker", "info").CombinedOutput()
	if err != nil {
		return nil, fmt.Sprintf("no Docker engine answers: %v %s", err, output)
	}
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		args := append(command[1:], "version")
		if exec.CommandContext(ctx, command[0], args...).Run() == nil {
			commands = append(commands, command)
		}
	}
	if len(commands) == 0 {
		return nil, "a Docker engine answers, but there is no Compose"
	}
	return commands, ""
}

// standIn is the image that this process has built and TestMain removes.
var standIn string

// image makes sure that there is an image for docker-compose.yml: the official
// one where it is there or can be pulled, otherwise one built from etcd's own
// modules with the same content. That is done once for all tests.
func image(t *testing.T) {
	t.Helper()
	if err := findImage(); err != nil {
		t.Fatal(err)
	}
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
		build.Dir = root
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
	standIn = name
	return nil
})

// compose runs a Compose command and returns what it prints to stdout.
func compose(t *testing.T, command []string, project string, args ...string) string {
	t.Helper()
	args = append([]string{"--project-name", project}, args...)
	return tool(t, command[0], append(command[1:], args...)...)
}

// down removes the containers, networks and volumes of both shapes.
func down(t *testing.T, command []string, project string) {
	t.Helper()
	compose(t, command, project, "--profile", "single", "--profile", "cluster",
		"down", "--volumes", "--timeout", "5")
}

func docker(t *testing.T, args ...string) string {
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
	cmd.Dir, cmd.Env, cmd.Stderr = root, plainEnv(), &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, &stderr)
	}
	return strings.TrimSpace(string(output))
}

// usualPort is held by the test that uses 127.0.0.1:2379.
var usualPort sync.Mutex

// takeUsualPort gives the port to a test until it ends. It skips the test when
// another program uses the port; in CI none may.
func takeUsualPort(t *testing.T) {
	t.Helper()
	usualPort.Lock()
	t.Cleanup(usualPort.Unlock)
	listener, err := net.Listen("tcp", "127.0.0.1:2379")
	switch {
	case err == nil:
		listener.Close()
	case os.Getenv("CI") != "":
		t.Fatalf("this test needs the port: %v", err)
	default:
		t.Skipf("this test needs the port; stop what uses it: %v", err)
	}
}
