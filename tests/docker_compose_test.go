package tests

import (
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
				t.Cleanup(func() { harness.ComposeDown(t, command, project) })
				harness.Compose(t, command, project, append(shape.flags, "up", "-d")...)
				for _, service := range shape.services {
					id := harness.Compose(t, command, project,
						append(shape.flags, "ps", "-q", service)...)
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
					append(shape.flags, "ps", "-q")...))
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
