package tests

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestClassroomServes starts the classroom's etcd, uses it, and starts it again
// on the data that it kept.
func TestClassroomServes(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	port := harness.FreePorts(t, 6) // Three members are tried at the end.
	endpoint := "127.0.0.1:" + strconv.Itoa(port)
	data := filepath.Join(t.TempDir(), "kept")
	for _, revision := range []string{"@ 2 ->", "@ 6 ->"} {
		etcd := harness.Start(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-port", strconv.Itoa(port), "-data", data)
		etcd.Await(t, "Ctrl-C stops it.")
		if !strings.HasPrefix(etcd.Stdout.String(), "The board is at http://127.0.0.1:") {
			t.Errorf("it does not begin with the board's address:\n%s", etcd.Stdout)
		}
		for _, words := range []string{
			"etcd 3.", "members: 1", endpoint, "export ETCDCTL_ENDPOINTS=" + endpoint,
			"go tool etcdctl member list", data,
		} {
			if !strings.Contains(etcd.Stdout.String(), words) {
				t.Errorf("it does not say %q:\n%s", words, etcd.Stdout)
			}
		}
		got := harness.Run(t, endpoint, nil, "02-put")
		if !strings.Contains(got.Stdout, revision) {
			t.Errorf("02-put does not show %q:\n%s%s", revision, got.Stdout, got.Stderr)
		}
		harness.Interrupt(t, etcd)
		if got := etcd.Wait(t); got.Status != 0 || got.Stderr != "" {
			t.Errorf("status %d\n%s", got.Status, got.Stderr)
		}
	}
	if _, err := os.Stat(data); err != nil {
		t.Error(err)
	}
	// The data of one member is no data for three.
	got := harness.Run(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-port", strconv.Itoa(port),
		"-data", data, "-members", "3")
	if got.Status != 1 || !strings.Contains(got.Stderr, "fewer members than 3") {
		t.Errorf("three members on the data of one: status %d\n%s", got.Status, got.Stderr)
	}
}

// TestClassroomMembers starts three members and runs a lesson against them. They
// find each other again on other ports.
func TestClassroomMembers(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcdtest.Reserve(t, 3)
	port, data := harness.FreePorts(t, 6), filepath.Join(t.TempDir(), "kept")
	args := []string{"-board", "127.0.0.1:0", "-members", "3", "-data", data, "-port"}
	etcd := harness.Start(t, "", nil, "classroom", append(args, strconv.Itoa(port))...)
	etcd.Await(t, "Ctrl-C stops it.")
	found := regexp.MustCompile(`ETCDCTL_ENDPOINTS=(\S+)`).FindStringSubmatch(etcd.Stdout.String())
	if found == nil || strings.Count(found[1], ",") != 2 {
		t.Fatalf("it does not name three endpoints:\n%s", etcd.Stdout)
	}
	got := harness.Run(t, found[1], nil, "01-connect")
	if got.Status != 0 || strings.Count(got.Stdout, "leader true") != 1 ||
		strings.Count(got.Stdout, "leader false") != 2 {
		t.Errorf("01-connect: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	harness.Interrupt(t, etcd)
	if got := etcd.Wait(t); got.Status != 0 {
		t.Errorf("status %d\n%s", got.Status, got.Stderr)
	}
	etcd = harness.Start(t, "", nil, "classroom", append(args, strconv.Itoa(harness.FreePorts(t, 6)))...)
	etcd.Await(t, "Ctrl-C stops it.")
	harness.Interrupt(t, etcd)
	etcd.Wait(t)
}

// TestPortTaken asks for ports that are taken, by an etcd and by another
// program.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	silent := harness.Silent(t)
	for _, c := range []struct{ name, endpoint, words string }{
		{"an etcd", etcd.Endpoints()[0], "an etcd 3."},
		{"something else", silent, "does not answer as an etcd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, port, err := net.SplitHostPort(c.endpoint)
			harness.NoError(t, err)
			got := harness.Run(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-port", port)
			if got.Status != 1 || !strings.Contains(got.Stderr, c.words) ||
				!strings.Contains(got.Stderr, c.endpoint) ||
				!strings.Contains(got.Stderr, "-port") ||
				strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("status %d, want one line with %q:\n%s",
					got.Status, c.words, got.Stderr)
			}
		})
	}
	// The port for the peers is taken: the same answer, before anything starts.
	t.Run("for peers", func(t *testing.T) {
		_, port, err := net.SplitHostPort(silent)
		harness.NoError(t, err)
		number, err := strconv.Atoi(port)
		harness.NoError(t, err)
		got := harness.Run(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-port", strconv.Itoa(number-1))
		if got.Status != 1 || !strings.Contains(got.Stderr, silent) {
			t.Errorf("status %d\n%s", got.Status, got.Stderr)
		}
	})
}

// TestTour runs the tour on an etcd of its own and on one that is named.
func TestTour(t *testing.T) {
	t.Parallel()
	t.Run("own etcd", func(t *testing.T) {
		etcdtest.ReserveFirst(t, 1)
		temporary := t.TempDir()
		got := harness.Run(t, "", []string{"TMPDIR=" + temporary, builtBefore()}, "classroom", "tour")
		if got.Status != 0 || !strings.HasSuffix(got.Stdout, "\n8 lessons, 8 ok\n") {
			t.Fatalf("status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
		}
		position := 0
		for _, lesson := range harness.Lessons {
			at := strings.Index(got.Stdout[position:], "── "+lesson+" ──\n")
			if at < 0 {
				t.Fatalf("%s has no heading in its place:\n%s", lesson, got.Stdout)
			}
			position += at
		}
		harness.NothingLeft(t, temporary)
	})
	t.Run("named etcd, named lessons", func(t *testing.T) {
		etcd := etcdtest.Etcd(t, cluster.Config{})
		client := etcdtest.Connect(t, etcd.Endpoints()...)
		got := harness.Run(t, etcd.Endpoints()[0], []string{builtBefore()}, "classroom", "tour", "02-put", "07-op")
		if got.Status != 0 || !strings.HasSuffix(got.Stdout, "\n2 lessons, 2 ok\n") {
			t.Errorf("status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
		}
		get, err := client.Get(harness.Soon(t), "/cron/jobs/put/job1")
		if err != nil || get.Count != 1 {
			t.Errorf("nothing was written to the etcd named: %v, %v", get, err)
		}
	})
	t.Run("a lesson fails", func(t *testing.T) {
		got := harness.Run(t, harness.Nobody, []string{builtBefore()}, "classroom", "tour", "02-put", "03-get")
		if got.Status != 1 || !strings.HasSuffix(got.Stdout, "\n2 lessons, 0 ok\n") ||
			!strings.Contains(got.Stderr, "failed: 02-put (exit status 1), 03-get") {
			t.Errorf("status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
		}
	})
	t.Run("an unknown lesson", func(t *testing.T) {
		got := harness.Run(t, "", nil, "classroom", "tour", "02-puts")
		if got.Status != 1 || !strings.Contains(got.Stderr, strings.Join(harness.Lessons, ", ")) {
			t.Errorf("status %d\n%s", got.Status, got.Stderr)
		}
	})
}

// builtBefore has a tour find the lessons that are built.
func builtBefore() string { return "XDG_CACHE_HOME=" + etcdtest.Cache }

// TestMemberCommands does to members what a learner can do from another
// terminal, and checks what list says after each step.
func TestMemberCommands(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 3)
	port := strconv.Itoa(harness.FreePorts(t, 6))
	etcd := harness.Start(t, "", nil, "classroom", "-board", "127.0.0.1:0", "-members", "3", "-port", port)
	etcd.Await(t, "Ctrl-C stops it.")
	member := func(args ...string) harness.Result {
		return harness.Run(t, "", nil, "classroom", append([]string{"-port", port, "member"}, args...)...)
	}
	count := func(role string) int {
		return strings.Count(member("list").Stdout, ", "+role+", ")
	}
	if leaders, followers := count("leader"), count("follower"); leaders != 1 || followers != 2 {
		t.Fatalf("leaders %d, followers %d", leaders, followers)
	}
	for _, c := range []struct{ action, shown string }{
		{"pause", "etcd2, paused, "},
		{"resume", "etcd2, "},
		{"kill", "etcd2, stopped, "},
		{"restart", "etcd2, "},
		{"cut", "etcd2, cut off, "},
		{"heal", "etcd2, "},
		{"stop", "etcd2, stopped, "},
		{"restart", "etcd2, "},
	} {
		got := member(c.action, "etcd2")
		if got.Status != 0 || !strings.HasPrefix(got.Stdout, c.shown) ||
			strings.Count(got.Stdout, "\n") != 1 {
			t.Errorf("%s: status %d, want %q\n%s%s",
				c.action, got.Status, c.shown, got.Stdout, got.Stderr)
		}
	}
	harness.Eventually(t, "all are members again", func() bool {
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
		if got := member(c.args...); got.Status != 1 || !strings.Contains(got.Stderr, c.words) {
			t.Errorf("%q: status %d\n%s", c.args, got.Status, got.Stderr)
		}
	}
	harness.Interrupt(t, etcd)
	if got := etcd.Wait(t); got.Status != 0 {
		t.Errorf("status %d\n%s", got.Status, got.Stderr)
	}
	if got := member("list"); got.Status != 1 || !strings.Contains(got.Stderr, "no classroom runs") {
		t.Errorf("after the end: status %d\n%s", got.Status, got.Stderr)
	}
}

// TestMemberSelectors does to members what a learner can do without knowing who
// leads.
func TestMemberSelectors(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcdtest.Reserve(t, 3)
	port := strconv.Itoa(harness.FreePorts(t, 6))
	etcd := harness.Start(t, "", nil, "classroom", "-board", "off", "-members", "3", "-port", port)
	etcd.Await(t, "Ctrl-C stops it.")
	member := func(args ...string) harness.Result {
		return harness.Run(t, "", nil, "classroom", append([]string{"-port", port, "member"}, args...)...)
	}
	// with returns the names of the members that have a role, in order.
	with := func(role string) (names []string) {
		for line := range strings.Lines(member("list").Stdout) {
			if fields := strings.Split(line, ", "); fields[1] == role {
				names = append(names, fields[0])
			}
		}
		return names
	}
	whole := func() {
		t.Helper()
		harness.Eventually(t, "one leads and two follow", func() bool {
			return len(with("leader")) == 1 && len(with("follower")) == 2
		})
	}
	// does checks that a command names those members, in order, as what they are.
	does := func(action, who string, names []string, role string) {
		t.Helper()
		got := member(action, who)
		var found []string
		for line := range strings.Lines(got.Stdout) {
			fields := strings.Split(line, ", ")
			if len(fields) != 4 || role != "" && fields[1] != role {
				t.Errorf("%s %s says %q, want the role %q", action, who, line, role)
			}
			found = append(found, fields[0])
		}
		if got.Status != 0 || got.Stderr != "" || !slices.Equal(found, names) {
			t.Errorf("%s %s: status %d, members %v, want %v\n%s", action, who, got.Status, found, names, got.Stderr)
		}
	}
	nobody := func(action, who, words string) {
		t.Helper()
		got := member(action, who)
		if got.Status != 1 || got.Stdout != "" || strings.Count(got.Stderr, "\n") != 1 ||
			!strings.Contains(got.Stderr, "no member matches "+who+": they are "+words) {
			t.Errorf("%s %s: status %d, want no match and %q\n%s%s", action, who, got.Status, words, got.Stdout, got.Stderr)
		}
	}

	whole()
	nobody("restart", "stopped", "etcd1 (")
	leader := with("leader")
	does("kill", "leader", leader, "stopped")
	does("restart", "stopped", leader, "")
	whole()

	nobody("heal", "cut", "etcd1 (")
	leader = with("leader")
	does("cut", "leader", leader, "cut off")
	if got := member("restart", "cut"); got.Status != 1 || !strings.Contains(got.Stderr, "heal it first") {
		t.Errorf("restart cut: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	if got := with("cut off"); !slices.Equal(got, leader) {
		t.Errorf("cut off are %v, want %v", got, leader)
	}
	does("heal", "cut", leader, "")
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
	harness.Interrupt(t, etcd)
	if got := etcd.Wait(t); got.Status != 0 {
		t.Errorf("status %d\n%s", got.Status, got.Stderr)
	}
}

// TestResetCommand empties the store of a classroom from another terminal, and no
// other store.
func TestResetCommand(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcdtest.Reserve(t, 4)
	number := harness.FreePorts(t, 6)
	port, data := strconv.Itoa(number), filepath.Join(t.TempDir(), "kept")
	args := []string{"-board", "off", "-members", "3", "-port", port, "-data", data}
	etcd := harness.Start(t, "", nil, "classroom", args...)
	etcd.Await(t, "Ctrl-C stops it.")
	var endpoints []string
	for i := range 3 {
		endpoints = append(endpoints, "127.0.0.1:"+strconv.Itoa(number+2*i))
	}
	use := func() {
		t.Helper()
		client := etcdtest.Connect(t, endpoints...)
		if _, err := client.Put(harness.Soon(t), "old", "value"); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Grant(harness.Soon(t), 600); err != nil {
			t.Fatal(err)
		}
	}
	empties := func(named string) {
		t.Helper()
		got := harness.Run(t, named, nil, "classroom", "-port", port, "reset")
		if got.Status != 0 || got.Stdout != "The store is empty, at revision 1.\n" || got.Stderr != "" {
			t.Fatalf("status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
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
		harness.Run(t, "", nil, "classroom", append([]string{"-port", port, "member"}, broken...)...)
		empties("")
	}

	// Another etcd is left alone, and so is the classroom's when another is meant.
	other := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	_, otherPort, err := net.SplitHostPort(other)
	harness.NoError(t, err)
	use()
	before := etcdtest.Connect(t, endpoints...)
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
		got := harness.Run(t, c.named, nil, "classroom", c.args...)
		for _, words := range append(c.words, "classroom: ") {
			if got.Status != 1 || got.Stdout != "" || !strings.Contains(got.Stderr, words) ||
				strings.Count(got.Stderr, "\n") != 1 || strings.Contains(got.Stderr, "secret") {
				t.Errorf("%q: status %d, want one line with %q\n%s%s", c.args, got.Status, words, got.Stdout, got.Stderr)
			}
		}
	}
	if get, err := before.Get(harness.Soon(t), "old"); err != nil || get.Count != 1 {
		t.Errorf("a refused reset did something: %v, %v", get, err)
	}

	// It ends as ever, and the next one finds the data emptied.
	empties("")
	harness.Interrupt(t, etcd)
	if got := etcd.Wait(t); got.Status != 0 || got.Stderr != "" {
		t.Errorf("status %d\n%s", got.Status, got.Stderr)
	}
	etcd = harness.Start(t, "", nil, "classroom", args...)
	etcd.Await(t, "Ctrl-C stops it.")
	isNew(t, endpoints[0])
	harness.Interrupt(t, etcd)
	etcd.Wait(t)
}
