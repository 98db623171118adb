//go:build unix

package tests

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the transcripts of README.md")

// outside are the commands of README.md that are no transcripts.
var outside = []string{
	"git clone <this repository> etcd-by-example",
	"cd etcd-by-example",
	"go test work",
	"go test ./tests -long -timeout 1h",
}

// TestREADME follows each session of README.md from top to bottom, in the
// terminals that it names, and compares all that is printed with what it shows.
func TestREADME(t *testing.T) {
	t.Parallel()
	name := filepath.Join(root, "README.md")
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := parse(source)
	if err != nil {
		t.Fatalf("README.md, %v", err)
	}
	if err := readme.check(); err != nil && !*update {
		t.Fatalf("README.md, %v", err)
	}
	if !slices.Equal(readme.outside, outside) {
		t.Errorf("README.md has these commands outside of transcripts: %q, want %q",
			readme.outside, outside)
	}
	checkInline(t, readme)
	checkSnippets(t, readme)

	warmUp(t)
	// The longest takes as long as all others in a row, and no more than two at
	// once leaves a learner's time to each command: leases run meanwhile.
	sessions := readme.sessions()
	slices.SortStableFunc(sessions, func(a, b []*block) int { return len(b) - len(a) })
	queue := make(chan []*block, len(sessions))
	for _, session := range sessions {
		queue <- session
	}
	close(queue)
	var players sync.WaitGroup
	for range 2 {
		players.Go(func() {
			for session := range queue {
				follow(t, session)
			}
		})
	}
	players.Wait()
	if *update && !t.Failed() {
		if err := os.WriteFile(name, readme.rewritten(), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// follow plays a session, a subtest for each part.
func follow(t *testing.T, session []*block) {
	t.Run(title(session[0]), func(t *testing.T) {
		player := newPlayer(t, session[0].docker)
		for len(session) > 0 {
			first := session[0]
			count := slices.IndexFunc(session, func(b *block) bool {
				return b.section != first.section
			})
			if count < 0 {
				count = len(session)
			}
			part := session[:count]
			session = session[count:]
			passed := t.Run(title(first), func(t *testing.T) {
				for _, b := range part {
					if err := player.play(t.Context(), b); err != nil {
						t.Fatalf("README.md, %v", err)
					}
				}
			})
			if !passed {
				t.Fatal("the rest of this session builds on this part")
			}
		}
	})
}

// title is how a test is called that begins with b.
func title(b *block) string {
	if b.docker {
		return b.section + ", with Docker"
	}
	return b.section
}

// newPlayer returns what plays one session of README.md, closed with the test.
// A session in a network of its own runs beside the others. One that needs the
// usual port of the machine waits for it.
func newPlayer(t *testing.T, docker bool) *player {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	player := &player{
		dir: dir, env: plainEnv("TERM=dumb"), network: machine,
		terminals: map[string]*terminal{}, update: *update,
	}
	if docker {
		compose, why := composeCommands()
		if len(compose) == 0 {
			t.Skip(why)
		}
		takeUsualPort(t)
		image(t)
		t.Cleanup(func() { down(t, compose[0], "etcd-by-example-readme") })
		player.env = append(player.env, "COMPOSE_PROJECT_NAME=etcd-by-example-readme")
		if compose[0][0] == "docker-compose" {
			// The page says what to type when this is all there is.
			player.env = append(player.env, "BASH_FUNC_docker%%=() { shift; docker-compose \"$@\"; }")
		}
	} else if own, err := newNetwork(t); err != nil {
		t.Logf("it takes the usual port, having no network of its own: %v", err)
		takeUsualPort(t)
	} else {
		player.network = own
		player.env = append(player.env, ownCache(t)...)
	}
	player.watchers = player.network.watchers
	t.Cleanup(player.close)
	return player
}

// ownCache returns variables that give a session a cache folder of its own, in
// which the classroom has its socket. The go command keeps the common one.
func ownCache(t *testing.T) []string {
	t.Helper()
	goCache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatalf("go env GOCACHE: %v", err)
	}
	// The path of a socket may have about 100 bytes. t.TempDir is too long.
	dir, err := os.MkdirTemp("", "readme-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return []string{"XDG_CACHE_HOME=" + dir, "GOCACHE=" + strings.TrimSpace(string(goCache))}
}

// network runs a function in some network. The programs that the function
// starts and the connections that it opens belong to that network.
type network func(func() error) error

// machine is the network that the tests themselves run in.
func machine(f func() error) error { return f() }

// dial connects to an address, which must be numeric, in the network.
func (in network) dial(ctx context.Context, protocol, address string) (net.Conn, error) {
	var connection net.Conn
	err := in(func() (err error) {
		connection, err = new(net.Dialer).DialContext(ctx, protocol, address)
		return err
	})
	return connection, err
}

// checkInline refuses code spans that look like a command to type and that no
// transcript runs.
func checkInline(t *testing.T, p *page) {
	t.Helper()
	var commands []string
	for _, b := range p.blocks {
		for _, s := range b.steps {
			commands = append(commands, s.command)
		}
	}
	commands = append(commands, outside...)
	for _, span := range p.inline {
		word, _, more := strings.Cut(span, " ")
		if !more || !slices.Contains([]string{"go", "docker", "git", "export"}, word) {
			continue
		}
		if !slices.ContainsFunc(commands, func(command string) bool {
			return strings.HasPrefix(command, span)
		}) {
			t.Errorf("README.md mentions %q, and no transcript runs it", span)
		}
	}
}

// checkSnippets refuses Go code that does not stand in a lesson as it is.
func checkSnippets(t *testing.T, p *page) {
	t.Helper()
	var sources strings.Builder
	for _, lesson := range lessons {
		source, err := os.ReadFile(filepath.Join(root, lesson, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(source)) {
			sources.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	for _, snippet := range p.snippet {
		var flat strings.Builder
		for line := range strings.Lines(snippet) {
			flat.WriteString(strings.TrimSpace(line) + "\n")
		}
		if !strings.Contains(sources.String(), flat.String()) {
			t.Errorf("README.md shows Go code that is in no lesson:\n%s", snippet)
		}
	}
}

// warmUp has the go command fetch and build what the page uses, so that its
// transcripts are those of a second run, without "go: downloading", and the
// sessions do not link the same programs side by side.
func warmUp(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"tool", "etcdctl", "version"},
		{"run", "-exec", "true", "./classroom"}, // Builds it, and runs true.
	} {
		build := exec.CommandContext(t.Context(), "go", args...)
		build.Dir = root
		if output, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, output)
		}
	}
}

// watchers returns the number of watchers of the etcd on the usual port.
func (in network) watchers(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx, http.MethodGet, "http://127.0.0.1:2379/metrics", nil)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: in.dial, DisableKeepAlives: true,
	}}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	for scanner := bufio.NewScanner(answer.Body); scanner.Scan(); {
		value, found := strings.CutPrefix(
			scanner.Text(), "etcd_debugging_mvcc_watcher_total ")
		if found {
			count, err := strconv.ParseFloat(value, 64)
			return int(count), err
		}
	}
	return 0, fmt.Errorf("etcd's metrics do not count its watchers")
}
