//go:build unix

package tests

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
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

var update = flag.Bool("update", false, "rewrite the transcripts of the pages")

// players is how many sessions run side by side. More would not leave a
// learner's time to each command: leases run meanwhile.
const players = 2

// slow are the sections that take longest. They come first, so that none of them
// is left for the end.
var slow = []string{"08-txn-lock", "05-lease", "06-watch", "Three members"}

// TestPages follows each session of README.md and of the pages in docs, in the
// terminals that it names, and compares all that is printed with what the page
// shows. With -update it writes into the page what is printed instead. For one
// section alone:
//
//	go test ./tests -run Pages/README.md/05-lease -update
func TestPages(t *testing.T) {
	t.Parallel()
	type task struct {
		page    *page
		session session
	}
	var tasks []task
	pages := readPages(t)
	for _, p := range pages {
		if err := p.check(); err != nil && !*update {
			t.Fatalf("%s, %v", p.name, err)
		}
		for _, session := range p.sessions() {
			tasks = append(tasks, task{p, session})
		}
	}
	warmUp(t)
	rank := func(t task) int {
		if i := slices.Index(slow, t.session[0].section); i >= 0 {
			return i
		}
		return len(slow)
	}
	slices.SortStableFunc(tasks, func(a, b task) int { return rank(a) - rank(b) })
	queue := make(chan task, len(tasks))
	for _, task := range tasks {
		queue <- task
	}
	close(queue)
	var playing sync.WaitGroup
	for range players {
		playing.Go(func() {
			for task := range queue {
				if !t.Run(task.page.name+"/"+task.session.name(), func(t *testing.T) {
					newPlayer(t, task.session[0].docker).follow(t, task.page, task.session)
				}) {
					task.session.forget()
				}
			}
		})
	}
	playing.Wait()
	if *update {
		for _, p := range pages {
			p.write(t)
		}
	}
}

// write puts the page with what was printed into its file, where that differs.
func (p *page) write(t *testing.T) {
	t.Helper()
	rewritten := p.rewritten()
	if bytes.Equal(rewritten, p.source) {
		return
	}
	name := filepath.Join(root, filepath.FromSlash(p.name))
	switch now, err := os.ReadFile(name); {
	case err != nil:
		t.Error(err)
	case !bytes.Equal(now, p.source):
		t.Errorf("%s was changed meanwhile, and is left as it is", p.name)
	default:
		if err := os.WriteFile(name, rewritten, 0o644); err != nil {
			t.Error(err)
		}
	}
}

// follow plays a session, and closes its terminals with the test. What a session
// makes in the repository and removes at its end is removed as well when it does not
// get there.
func (p *player) follow(t *testing.T, page *page, session session) {
	t.Helper()
	for _, b := range session {
		for _, s := range b.steps {
			name, found := strings.CutPrefix(s.command, "rm -r ")
			if !found || !filepath.IsLocal(name) {
				continue
			}
			made := filepath.Join(p.dir, name)
			if _, err := os.Stat(made); err == nil {
				t.Fatalf("%s is there already, and %s would remove it", made, page.name)
			}
			t.Cleanup(func() { os.RemoveAll(made) })
		}
	}
	t.Cleanup(p.close)
	if session.needsEtcd() {
		if err := p.startEtcd(); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range session {
		if err := p.play(t.Context(), b); err != nil {
			t.Fatalf("%s, %v", page.name, err)
		}
	}
}

// newPlayer returns what plays one session of a page. A session in a network of its
// own runs beside the others. One that needs the usual port of the machine waits
// for it.
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
		t.Cleanup(func() { down(t, compose[0], "etcd-by-example-page") })
		player.env = append(player.env, "COMPOSE_PROJECT_NAME=etcd-by-example-page")
		if compose[0][0] == "docker-compose" {
			// The page says what to type when this is all there is.
			player.env = append(player.env, "BASH_FUNC_docker%%=() { shift; docker-compose \"$@\"; }")
		}
	} else {
		player.env = append(player.env, ownHome(t)...)
		if own, err := newNetwork(t); err == nil {
			player.network = own
		} else {
			t.Logf("it takes the usual port, having no network of its own: %v", err)
			takeUsualPort(t)
		}
	}
	player.watchers, player.healthy = player.network.watchers, player.network.healthy
	return player
}

// ownHome returns variables that give a session a home folder of its own: the
// classroom has its socket there, and the page may put a program into it. The go
// command keeps its caches, and takes modules from there alone, as the network of
// the session leads nowhere.
func ownHome(t *testing.T) []string {
	t.Helper()
	var env struct{ GOCACHE, GOENV, GOMODCACHE, GOPATH string }
	list(t, &env, "env", "-json", "GOCACHE", "GOENV", "GOMODCACHE", "GOPATH")
	// The path of a socket may have about 100 bytes. t.TempDir is too long.
	home, err := os.MkdirTemp("/tmp", "page-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	return []string{
		"HOME=" + home, "XDG_CACHE_HOME=" + home,
		"GOCACHE=" + env.GOCACHE, "GOENV=" + env.GOENV,
		"GOMODCACHE=" + env.GOMODCACHE, "GOPATH=" + env.GOPATH,
		"GOPROXY=file://" + env.GOMODCACHE + "/cache/download", "GOSUMDB=off",
	}
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

// warmUp has the go command fetch and build what the pages use, once, so that
// their transcripts are those of a second run, without "go: downloading", and the
// sessions do not link the same programs side by side.
func warmUp(t *testing.T) {
	t.Helper()
	if err := warm(); err != nil {
		t.Fatal(err)
	}
}

var warm = sync.OnceValue(func() error {
	for _, args := range [][]string{
		{"tool", "etcdctl", "version"},
		{"run", "-exec", "true", "./classroom"}, // Builds it, and runs true.
		{"run", "-exec", "true", "go.etcd.io/etcd/server/v3"},
	} {
		build := exec.Command("go", args...)
		build.Dir = root
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go %q: %w\n%s", args, err, output)
		}
	}
	return nil
})

// watchers returns the number of watchers of the etcd on the usual port.
func (in network) watchers(ctx context.Context) (int, error) {
	metrics, err := in.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(metrics) {
		value, found := strings.CutPrefix(line, "etcd_debugging_mvcc_watcher_total ")
		if found {
			count, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return int(count), err
		}
	}
	return 0, fmt.Errorf("etcd's metrics do not count its watchers")
}

// healthy reports whether the etcd on the usual port answers that it is.
func (in network) healthy(ctx context.Context) bool {
	health, err := in.ask(ctx, "/health")
	return err == nil && strings.Contains(health, `"health":"true"`)
}

// ask returns what the etcd on the usual port answers.
func (in network) ask(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx, http.MethodGet, "http://127.0.0.1:2379"+path, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: in.dial, DisableKeepAlives: true,
	}}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}
