package tests

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/cluster"
)

// TestClassroomServes starts the classroom's etcd, uses it, and starts it again
// on the data that it kept.
func TestClassroomServes(t *testing.T) {
	parallel(t)
	port := freePort(t, 6) // Three members are tried at the end.
	endpoint := "127.0.0.1:" + strconv.Itoa(port)
	data := filepath.Join(t.TempDir(), "kept")
	for _, revision := range []string{"@ 2 ->", "@ 6 ->"} {
		etcd := start(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-port", strconv.Itoa(port), "-data", data)
		etcd.await(t, "Ctrl-C stops it.")
		if !strings.HasPrefix(etcd.stdout.String(), "The board is at http://127.0.0.1:") {
			t.Errorf("it does not begin with the board's address:\n%s", etcd.stdout)
		}
		for _, words := range []string{
			"etcd 3.", "members: 1", endpoint, "export ETCDCTL_ENDPOINTS=" + endpoint,
			"go tool etcdctl member list", data,
		} {
			if !strings.Contains(etcd.stdout.String(), words) {
				t.Errorf("it does not say %q:\n%s", words, etcd.stdout)
			}
		}
		got := run(t, endpoint, nil, "02-put")
		if !strings.Contains(got.stdout, revision) {
			t.Errorf("02-put does not show %q:\n%s%s", revision, got.stdout, got.stderr)
		}
		interrupt(t, etcd)
		if got := etcd.wait(t); got.status != 0 || got.stderr != "" {
			t.Errorf("status %d\n%s", got.status, got.stderr)
		}
	}
	if _, err := os.Stat(data); err != nil {
		t.Error(err)
	}
	// The data of one member is no data for three.
	got := run(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-port", strconv.Itoa(port),
		"-data", data, "-members", "3")
	if got.status != 1 || !strings.Contains(got.stderr, "fewer members than 3") {
		t.Errorf("three members on the data of one: status %d\n%s", got.status, got.stderr)
	}
}

// TestClassroomMembers starts three members and runs a lesson against them. With
// other ports the members would not find each other again.
func TestClassroomMembers(t *testing.T) {
	parallel(t)
	port, data := freePort(t, 6), filepath.Join(t.TempDir(), "kept")
	args := []string{"-board", "127.0.0.1:0", "-members", "3", "-data", data, "-port"}
	etcd := start(t, "", nil, "classroom", append(args, strconv.Itoa(port))...)
	etcd.await(t, "Ctrl-C stops it.")
	found := regexp.MustCompile(`ETCDCTL_ENDPOINTS=(\S+)`).FindStringSubmatch(etcd.stdout.String())
	if found == nil || strings.Count(found[1], ",") != 2 {
		t.Fatalf("it does not name three endpoints:\n%s", etcd.stdout)
	}
	got := run(t, found[1], nil, "01-connect")
	if got.status != 0 || strings.Count(got.stdout, "leader true") != 1 ||
		strings.Count(got.stdout, "leader false") != 2 {
		t.Errorf("01-connect: status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
	interrupt(t, etcd)
	if got := etcd.wait(t); got.status != 0 {
		t.Errorf("status %d\n%s", got.status, got.stderr)
	}
	got = run(t, "", nil, "classroom", append(args, strconv.Itoa(freePort(t, 6)))...)
	if got.status != 1 || !strings.Contains(got.stderr, fmt.Sprintf("members at port %d:", port)) {
		t.Errorf("on other ports: status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
	etcd = start(t, "", nil, "classroom", append(args, strconv.Itoa(port))...)
	etcd.await(t, "Ctrl-C stops it.")
	interrupt(t, etcd)
	etcd.wait(t)
}

// TestPortTaken asks for ports that are taken, by an etcd and by another
// program.
func TestPortTaken(t *testing.T) {
	parallel(t)
	etcd := startEtcd(t, cluster.Config{})
	silent := silentListener(t)
	for _, c := range []struct{ name, endpoint, words string }{
		{"an etcd", etcd.Endpoints()[0], "an etcd 3."},
		{"something else", silent, "does not answer as an etcd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, port, err := net.SplitHostPort(c.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-port", port)
			if got.status != 1 || !strings.Contains(got.stderr, c.words) ||
				!strings.Contains(got.stderr, c.endpoint) ||
				!strings.Contains(got.stderr, "-port") ||
				strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("status %d, want one line with %q:\n%s",
					got.status, c.words, got.stderr)
			}
		})
	}
	// The port for the peers is taken: the same answer, before anything starts.
	t.Run("for peers", func(t *testing.T) {
		_, port, err := net.SplitHostPort(silent)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		got := run(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-port", strconv.Itoa(number-1))
		if got.status != 1 || !strings.Contains(got.stderr, silent) {
			t.Errorf("status %d\n%s", got.status, got.stderr)
		}
	})
}

// TestTour runs the tour on an etcd of its own and on one that is named.
func TestTour(t *testing.T) {
	t.Parallel()
	t.Run("own etcd", func(t *testing.T) {
		temporary := t.TempDir()
		got := run(t, "", []string{"TMPDIR=" + temporary}, "classroom", "tour")
		if got.status != 0 || !strings.HasSuffix(got.stdout, "\n8 lessons, 8 ok\n") {
			t.Fatalf("status %d\n%s%s", got.status, got.stdout, got.stderr)
		}
		position := 0
		for _, lesson := range lessons {
			at := strings.Index(got.stdout[position:], "── "+lesson+" ──\n")
			if at < 0 {
				t.Fatalf("%s has no heading in its place:\n%s", lesson, got.stdout)
			}
			position += at
		}
		empty(t, temporary)
	})
	etcd := startEtcd(t, cluster.Config{})
	client := connect(t, etcd.Endpoints()...)
	t.Run("named etcd, named lessons", func(t *testing.T) {
		got := run(t, etcd.Endpoints()[0], nil, "classroom", "tour", "02-put", "07-op")
		if got.status != 0 || !strings.HasSuffix(got.stdout, "\n2 lessons, 2 ok\n") {
			t.Errorf("status %d\n%s%s", got.status, got.stdout, got.stderr)
		}
		get, err := client.Get(soon(t), "/cron/jobs/put/job1")
		if err != nil || get.Count != 1 {
			t.Errorf("nothing was written to the etcd named: %v, %v", get, err)
		}
	})
	t.Run("a lesson fails", func(t *testing.T) {
		got := run(t, dead, nil, "classroom", "tour", "02-put", "03-get")
		if got.status != 1 || !strings.HasSuffix(got.stdout, "\n2 lessons, 0 ok\n") ||
			!strings.Contains(got.stderr, "failed: 02-put (exit status 1), 03-get") {
			t.Errorf("status %d\n%s%s", got.status, got.stdout, got.stderr)
		}
	})
	t.Run("an unknown lesson", func(t *testing.T) {
		got := run(t, "", nil, "classroom", "tour", "02-puts")
		if got.status != 1 || !strings.Contains(got.stderr, strings.Join(lessons, ", ")) {
			t.Errorf("status %d\n%s", got.status, got.stderr)
		}
	})
}

// interrupt sends what Ctrl-C at a terminal sends to its program.
func interrupt(t *testing.T, p *running) {
	t.Helper()
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
}

// empty fails the test when something was left in the folder.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range left {
		t.Errorf("left behind: %s", file.Name())
	}
}

// nextPort is where freePort goes on. It only grows, so that tests that run at
// the same time are given different ports.
var nextPort atomic.Int64

func init() { nextPort.Store(10000 + rand.Int64N(5000)) }

// freePort returns the first of count ports in a row on which nothing listens.
func freePort(t *testing.T, count int) int {
	t.Helper()
search:
	for range 100 {
		first := int(nextPort.Add(int64(count))) - count
		for port := first; port < first+count; port++ {
			listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err != nil {
				continue search
			}
			listener.Close()
		}
		return first
	}
	t.Fatalf("no %d free ports in a row", count)
	return 0
}

// TestMemberCommands does to members what a learner can do from another
// terminal, and checks what list says after each step.
func TestMemberCommands(t *testing.T) {
	parallel(t)
	port := strconv.Itoa(freePort(t, 6))
	etcd := start(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-members", "3", "-port", port)
	etcd.await(t, "Ctrl-C stops it.")
	member := func(args ...string) result {
		return run(t, "", nil, "classroom", append([]string{"-port", port, "member"}, args...)...)
	}
	count := func(role string) int {
		return strings.Count(member("list").stdout, ", "+role+", ")
	}
	if leaders, followers := count("leader"), count("follower"); leaders != 1 || followers != 2 {
		t.Fatalf("leaders %d, followers %d", leaders, followers)
	}
	for _, c := range []struct{ action, shown string }{
		{"pause", "etcd2, paused, "},
		{"resume", "etcd2, "},
		{"kill", "etcd2, stopped, "},
		{"restart", "etcd2, "},
		{"stop", "etcd2, stopped, "},
		{"restart", "etcd2, "},
	} {
		got := member(c.action, "etcd2")
		if got.status != 0 || !strings.HasPrefix(got.stdout, c.shown) ||
			strings.Count(got.stdout, "\n") != 1 {
			t.Errorf("%s: status %d, want %q\n%s%s",
				c.action, got.status, c.shown, got.stdout, got.stderr)
		}
	}
	eventually(t, 20*time.Second, "all are members again", func() bool {
		return count("leader") == 1 && count("follower") == 2
	})
	for _, c := range []struct {
		args  []string
		words string
	}{
		{[]string{"kill", "etcd4"}, "they are etcd1 to etcd3"},
		{[]string{"explode", "etcd1"}, "usage: classroom member list"},
		{[]string{"kill", "a/b"}, "they are etcd1 to etcd3"},
		{[]string{"kill"}, "usage: classroom member list"},
	} {
		if got := member(c.args...); got.status != 1 || !strings.Contains(got.stderr, c.words) {
			t.Errorf("%q: status %d\n%s", c.args, got.status, got.stderr)
		}
	}
	interrupt(t, etcd)
	if got := etcd.wait(t); got.status != 0 {
		t.Errorf("status %d\n%s", got.status, got.stderr)
	}
	if got := member("list"); got.status != 1 || !strings.Contains(got.stderr, "no classroom runs") {
		t.Errorf("after the end: status %d\n%s", got.status, got.stderr)
	}
}

// TestMemberSelectors does to members what a learner can do without knowing who
// leads.
func TestMemberSelectors(t *testing.T) {
	parallel(t)
	port := strconv.Itoa(freePort(t, 6))
	etcd := start(t, "", nil, "classroom", "-board", "off", "-members", "3", "-port", port)
	etcd.await(t, "Ctrl-C stops it.")
	member := func(args ...string) result {
		return run(t, "", nil, "classroom", append([]string{"-port", port, "member"}, args...)...)
	}
	// with returns the names of the members that have a role, in order.
	with := func(role string) (names []string) {
		for line := range strings.Lines(member("list").stdout) {
			if fields := strings.Split(line, ", "); fields[1] == role {
				names = append(names, fields[0])
			}
		}
		return names
	}
	whole := func() {
		t.Helper()
		eventually(t, 20*time.Second, "one leads and two follow", func() bool {
			return len(with("leader")) == 1 && len(with("follower")) == 2
		})
	}
	// does checks that a command names those members, in order, as what they are.
	does := func(action, who string, names []string, role string) {
		t.Helper()
		got := member(action, who)
		var found []string
		for line := range strings.Lines(got.stdout) {
			fields := strings.Split(line, ", ")
			if len(fields) != 4 || role != "" && fields[1] != role {
				t.Errorf("%s %s says %q, want the role %q", action, who, line, role)
			}
			found = append(found, fields[0])
		}
		if got.status != 0 || got.stderr != "" || !slices.Equal(found, names) {
			t.Errorf("%s %s: status %d, members %v, want %v\n%s", action, who, got.status, found, names, got.stderr)
		}
	}
	nobody := func(action, who, words string) {
		t.Helper()
		got := member(action, who)
		if got.status != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 ||
			!strings.Contains(got.stderr, "no member matches "+who+": they are "+words) {
			t.Errorf("%s %s: status %d, want no match and %q\n%s%s", action, who, got.status, words, got.stdout, got.stderr)
		}
	}

	whole()
	nobody("restart", "stopped", "etcd1 (")
	leader := with("leader")
	does("kill", "leader", leader, "stopped")
	does("restart", "stopped", leader, "")
	whole()

	if runtime.GOOS != "windows" {
		followers := with("follower")
		does("pause", "followers", followers, "paused")
		if got := with("paused"); !slices.Equal(got, followers) {
			t.Errorf("paused are %v, want %v", got, followers)
		}
		nobody("resume", "followers", "etcd1 (")
		for _, name := range followers {
			does("resume", name, []string{name}, "")
		}
		whole()
	}

	does("restart", "followers", with("follower"), "")
	whole()
	followers := with("follower")
	does("stop", "followers", followers, "stopped")
	does("restart", "stopped", followers, "")
	whole()

	for _, name := range []string{"etcd1", "etcd2", "etcd3"} {
		does("kill", name, []string{name}, "stopped")
	}
	nobody("kill", "leader", "etcd1 (stopped), etcd2 (stopped), etcd3 (stopped)\n")
	does("restart", "stopped", []string{"etcd1", "etcd2", "etcd3"}, "")
	whole()
	interrupt(t, etcd)
	if got := etcd.wait(t); got.status != 0 {
		t.Errorf("status %d\n%s", got.status, got.stderr)
	}
}

// TestResetCommand empties the store of a classroom from another terminal, and no
// other store.
func TestResetCommand(t *testing.T) {
	parallel(t)
	number := freePort(t, 6)
	port, data := strconv.Itoa(number), filepath.Join(t.TempDir(), "kept")
	args := []string{"-board", "off", "-members", "3", "-port", port, "-data", data}
	etcd := start(t, "", nil, "classroom", args...)
	etcd.await(t, "Ctrl-C stops it.")
	var endpoints []string
	for i := range 3 {
		endpoints = append(endpoints, "127.0.0.1:"+strconv.Itoa(number+2*i))
	}
	use := func() {
		t.Helper()
		client := connect(t, endpoints...)
		if _, err := client.Put(soon(t), "old", "value"); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Grant(soon(t), 600); err != nil {
			t.Fatal(err)
		}
	}
	empties := func(named string) {
		t.Helper()
		got := run(t, named, nil, "classroom", "-port", port, "reset")
		if got.status != 0 || got.stdout != "The store is empty, at revision 1.\n" || got.stderr != "" {
			t.Fatalf("status %d\n%s%s", got.status, got.stdout, got.stderr)
		}
		for _, endpoint := range endpoints {
			isNew(t, endpoint)
		}
	}
	use()
	empties("")
	use()
	// Named are members, as users may write them.
	empties(endpoints[1] + ", http://localhost:" + port)
	for _, broken := range [][]string{{"kill", "etcd1"}, {"pause", "etcd2"}, {"stop", "etcd3"}} {
		if runtime.GOOS == "windows" && broken[0] == "pause" {
			continue
		}
		use()
		run(t, "", nil, "classroom", append([]string{"-port", port, "member"}, broken...)...)
		empties("")
	}

	// Another etcd is left alone, and so is the classroom's when another is meant.
	other := startEtcd(t, cluster.Config{}).Endpoints()[0]
	_, otherPort, err := net.SplitHostPort(other)
	noError(t, err)
	use()
	before := connect(t, endpoints...)
	for _, c := range []struct {
		named string
		args  []string
		words []string
	}{
		{other, []string{"-port", port, "reset"},
			[]string{"names " + other + ", which", "port " + port, "unset ETCDCTL_ENDPOINTS", strings.Join(endpoints, ",")}},
		{endpoints[0] + ",http://ann:secret@" + other, []string{"-port", port, "reset"},
			[]string{"names " + other + ", which", "unset ETCDCTL_ENDPOINTS"}},
		{"", []string{"-port", otherPort, "reset"},
			[]string{"no classroom runs on port " + otherPort, "go run ./classroom"}},
		{"", []string{"-port", port, "reset", "now"}, []string{"usage: classroom [-port number] reset"}},
	} {
		got := run(t, c.named, nil, "classroom", c.args...)
		for _, words := range append(c.words, "classroom: ") {
			if got.status != 1 || got.stdout != "" || !strings.Contains(got.stderr, words) ||
				strings.Count(got.stderr, "\n") != 1 || strings.Contains(got.stderr, "secret") {
				t.Errorf("%q: status %d, want one line with %q\n%s%s", c.args, got.status, words, got.stdout, got.stderr)
			}
		}
	}
	if get, err := before.Get(soon(t), "old"); err != nil || get.Count != 1 {
		t.Errorf("a refused reset did something: %v, %v", get, err)
	}

	// It ends as ever, and the next one finds the data emptied.
	empties("")
	interrupt(t, etcd)
	if got := etcd.wait(t); got.status != 0 || got.stderr != "" {
		t.Errorf("status %d\n%s", got.status, got.stderr)
	}
	etcd = start(t, "", nil, "classroom", args...)
	etcd.await(t, "Ctrl-C stops it.")
	isNew(t, endpoints[0])
	interrupt(t, etcd)
	etcd.wait(t)
}
