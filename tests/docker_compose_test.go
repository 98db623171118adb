package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestCompose runs the tour against both shapes of docker-compose.yml, with
// every Compose that there is.
func TestCompose(t *testing.T) {
	etcdtest.NeedsLong(t, "it runs the tour in both shapes, which README.md's commands bring up")
	t.Parallel()
	commands := harness.ComposeCommands(t)
	harness.UsualPort(t)
	const project = "etcd-by-example-test"
	harness.ComposeAtEnd(t, project)
	harness.EtcdImage(t)
	alone, three := composeArgs(t)
	for _, command := range commands {
		for _, shape := range []struct {
			name, endpoints string
			up, services    []string
		}{
			{"one member", "127.0.0.1:2379", alone, []string{"etcd"}},
			{"three members", "127.0.0.1:2379,127.0.0.1:2381,127.0.0.1:2383",
				three, []string{"etcd1", "etcd2", "etcd3"}},
		} {
			t.Run(strings.Join(command, " ")+", "+shape.name, func(t *testing.T) {
				t.Cleanup(func() { harness.ComposeDown(t, command, project) })
				harness.Compose(t, command, project, shape.up...)
				flags := shape.up[:slices.Index(shape.up, "up")]
				for _, service := range shape.services {
					id := harness.Compose(t, command, project,
						append(slices.Clone(flags), "ps", "-q", service)...)
					etcdtest.Eventually(t, service+" is healthy", func() bool {
						return harness.Docker(t, "inspect", "--format",
							"{{.State.Health.Status}}", id) == "healthy"
					})
					for address := range strings.Lines(harness.Docker(t, "port", id)) {
						if !strings.Contains(address, "-> 127.0.0.1:") {
							t.Errorf("%s is published beyond this machine: %s", service, address)
						}
					}
				}
				running := strings.Fields(harness.Compose(t, command, project,
					append(slices.Clone(flags), "ps", "-q")...))
				if len(running) != len(shape.services) {
					t.Errorf("containers: %q, want %q", running, shape.services)
				}
				members, err := etcdtest.Connect(t, strings.Split(shape.endpoints, ",")...).
					MemberList(etcdtest.Soon(t))
				if err != nil || len(members.Members) != len(shape.services) {
					t.Errorf("members: %v, %v", members, err)
				}
				got := harness.Run(t, shape.endpoints, nil, "classroom", "tour")
				if got.Status != 0 {
					t.Errorf("the tour: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
				}
			})
		}
	}
}

// composeArgs returns what docker-compose.yml says to type after docker compose, for one
// member and for three.
func composeArgs(t *testing.T) (alone, three []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root, "docker-compose.yml"))
	etcdtest.NoError(t, err)
	found := regexp.MustCompile(`(?m)^# .*: +docker compose (.*)$`).FindAllSubmatch(text, -1)
	if len(found) != 2 {
		t.Fatalf("docker-compose.yml tells %d commands, not two", len(found))
	}
	return strings.Fields(string(found[0][1])), strings.Fields(string(found[1][1]))
}

// TestComposeCommands holds what docker-compose.yml says to what some kinds of Compose
// do with it, that select the profile of .env beside the one that is named: the command
// for three members has to name them all, or a fourth one takes the port of the first.
func TestComposeCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(harness.Root, "docker-compose.yml"))
	etcdtest.NoError(t, err)
	want := []string{"--profile", "cluster", "up", "-d"}
	service := ""
	for line := range strings.Lines(string(text)) {
		if name := regexp.MustCompile(`^  (\w+):\n$`).FindStringSubmatch(line); name != nil {
			service = name[1]
		} else if line == "    profiles: [\"cluster\"]\n" {
			want = append(want, service)
		}
	}
	if _, three := composeArgs(t); len(want) != 7 || !slices.Equal(three, want) {
		t.Errorf("for three members it says %q, want %q", three, want)
	}
}
