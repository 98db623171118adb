package tests

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// classroom is one that runs.
type classroom struct {
	*harness.Running
	port int // of its first member
}

// serve starts a classroom on the ports from one on, with further variables and flags,
// and returns when it is ready. It ends with the test, as Ctrl-C ends it.
func serve(t testing.TB, port int, env []string, flags ...string) classroom {
	t.Helper()
	c := classroom{harness.Start(t, "", env, "classroom",
		append([]string{"-board", "127.0.0.1:0", "-port", strconv.Itoa(port)}, flags...)...), port}
	t.Cleanup(func() {
		// Its members write into the test's folders, which go next.
		c.Process.Signal(os.Interrupt)
		c.Wait(t)
	})
	c.Await(t, "\nCtrl-C ")
	return c
}

// endpoints returns where clients find its first members.
func (c classroom) endpoints(members int) (all []string) {
	for i := range members {
		all = append(all, fmt.Sprint("127.0.0.1:", c.port+2*i))
	}
	return all
}

// act runs a command that acts on it, in another terminal.
func (c classroom) act(t testing.TB, args ...string) harness.Result {
	t.Helper()
	return harness.Run(t, "", nil, "classroom", append(args, "-port", strconv.Itoa(c.port))...)
}

// end ends it with Ctrl-C, of which it has nothing to complain.
func (c classroom) end(t *testing.T) {
	t.Helper()
	harness.Interrupt(t, c.Running)
	got := c.Wait(t)
	expect(t, got, 0)
	if got.Stderr != "" {
		t.Errorf("at its end it says\n%s", got.Stderr)
	}
}

// expect fails the test unless a program has ended with the status, and has said the words:
// what goes well is said to stdout, and what does not to stderr.
func expect(t testing.TB, got harness.Result, status int, words ...string) {
	t.Helper()
	said := got.Stdout
	if status != 0 {
		said = got.Stderr
	}
	missing := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.Contains(said, w) })
	if got.Status != status || len(missing) > 0 {
		t.Errorf("status %d, want %d; it does not say %q:\n%s%s", got.Status, status, missing, got.Stdout, got.Stderr)
	}
}

// put puts a key, and returns the revision of that.
func put(t testing.TB, client *clientv3.Client, key, value string, options ...clientv3.OpOption) int64 {
	t.Helper()
	answer, err := client.Put(etcdtest.Soon(t), key, value, options...)
	etcdtest.NoError(t, err)
	return answer.Header.Revision
}

// TestClassroomServes starts the classroom's etcd, uses it, and starts it again
// on the data that it kept.
func TestClassroomServes(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	port := harness.FreePorts(t, 6) // Three members are tried at the end.
	data := filepath.Join(t.TempDir(), "kept")
	for _, revision := range []string{"@ 2 ->", "@ 6 ->"} {
		c := serve(t, port, nil, "-data", data)
		endpoint, said := c.endpoints(1)[0], c.Stdout.String()
		if !strings.HasPrefix(said, "The board is at http://127.0.0.1:") {
			t.Errorf("it does not begin with the board's address:\n%s", said)
		}
		for _, words := range []string{
			"etcd 3.", "members: 1", "export ETCDCTL_ENDPOINTS=" + endpoint, "go tool etcdctl member list", data,
		} {
			if !strings.Contains(said, words) {
				t.Errorf("it does not say %q:\n%s", words, said)
			}
		}
		expect(t, harness.Run(t, endpoint, nil, "02-put"), 0, revision)
		c.end(t)
	}
	// The data of one member is no data for three.
	expect(t, harness.Run(t, "", nil, "classroom", "-board", "off", "-port", strconv.Itoa(port), "-data", data, "-members", "3"),
		1, "fewer members than 3")
}

// TestPortTaken asks for ports that are taken, by an etcd and by another program, and
// for one of which the port for the peers is.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	etcd, silent := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0], harness.Silent(t)
	for _, c := range []struct {
		taken string
		below int // it asks for a port that is so far below
		words string
	}{
		{etcd, 0, "an etcd 3."},
		{silent, 0, "does not answer as an etcd"},
		{silent, 1, "does not answer as an etcd"},
	} {
		port := portOf(t, c.taken) - c.below
		got := harness.Run(t, "", nil, "classroom", "-board", "off", "-port", strconv.Itoa(port))
		expect(t, got, 1, c.taken, c.words, "-port")
		if strings.Count(got.Stderr, "\n") != 1 {
			t.Errorf("it is not one line:\n%s", got.Stderr)
		}
	}
}

func portOf(t *testing.T, endpoint string) int {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", endpoint)
	etcdtest.NoError(t, err)
	return address.Port
}

// TestTour runs the tour on an etcd of its own and on one that is named.
func TestTour(t *testing.T) {
	t.Parallel()
	t.Run("own etcd", func(t *testing.T) {
		etcdtest.ReserveFirst(t, 1)
		temporary := t.TempDir()
		got := harness.Run(t, "", []string{"TMPDIR=" + temporary, builtBefore()}, "classroom", "tour")
		expect(t, got, 0, "\n8 lessons, 8 ok\n")
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
		expect(t, harness.Run(t, etcd.Endpoints()[0], []string{builtBefore()}, "classroom", "tour", "02-put", "07-op"),
			0, "\n2 lessons, 2 ok\n")
		get, err := client.Get(etcdtest.Soon(t), "/cron/jobs/put/job1")
		if err != nil || get.Count != 1 {
			t.Errorf("nothing was written to the etcd named: %v, %v", get, err)
		}
	})
	t.Run("a lesson fails", func(t *testing.T) {
		got := harness.Run(t, harness.Nobody, []string{builtBefore()}, "classroom", "tour", "02-put", "03-get")
		expect(t, got, 1, "failed: 02-put (exit status 1), 03-get")
		if !strings.HasSuffix(got.Stdout, "\n2 lessons, 0 ok\n") {
			t.Errorf("it does not count them:\n%s", got.Stdout)
		}
	})
	t.Run("an unknown lesson", func(t *testing.T) {
		expect(t, harness.Run(t, "", nil, "classroom", "tour", "02-puts"), 1, strings.Join(harness.Lessons, ", "))
	})
}

// builtBefore has a tour find the lessons that are built.
func builtBefore() string { return "XDG_CACHE_HOME=" + etcdtest.Cache }

// TestMemberCommands does to three members what a learner can do from another terminal,
// by their names, and without knowing who leads.
func TestMemberCommands(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 3)
	c := serve(t, harness.FreePorts(t, 6), nil, "-members", "3")
	named := strings.Join(c.endpoints(3), ",")
	if !strings.Contains(c.Stdout.String(), "export ETCDCTL_ENDPOINTS="+named+"\n") {
		t.Errorf("it does not name three endpoints:\n%s", c.Stdout)
	}
	got := harness.Run(t, named, nil, "01-connect")
	expect(t, got, 0)
	if strings.Count(got.Stdout, "leader true") != 1 || strings.Count(got.Stdout, "leader false") != 2 {
		t.Errorf("01-connect does not find one leader of three:\n%s", got.Stdout)
	}

	// with returns the names of the members that have a role, in order.
	with := func(t *testing.T, role string) (names []string) {
		t.Helper()
		for line := range strings.Lines(c.act(t, "member", "list").Stdout) {
			if fields := strings.Split(line, ", "); fields[1] == role {
				names = append(names, fields[0])
			}
		}
		return names
	}
	whole := func(t *testing.T) {
		t.Helper()
		etcdtest.Eventually(t, "one leads and two follow", func() bool {
			return len(with(t, "leader")) == 1 && len(with(t, "follower")) == 2
		})
	}
	// does checks that a command names those members, in order, as what they are then.
	does := func(t *testing.T, action, who, role string, names ...string) {
		t.Helper()
		if runtime.GOOS == "windows" && (action == "pause" || action == "resume") {
			return
		}
		got := c.act(t, "member", action, who)
		expect(t, got, 0)
		var found []string
		for line := range strings.Lines(got.Stdout) {
			fields := strings.Split(line, ", ")
			if len(fields) != 4 || role != "" && fields[1] != role {
				t.Errorf("%s %s says %q, want the role %q", action, who, line, role)
			}
			found = append(found, fields[0])
		}
		if !slices.Equal(found, names) {
			t.Errorf("%s %s: members %v, want %v", action, who, found, names)
		}
	}
	whole(t)
	for _, step := range []struct{ action, role string }{
		{"pause", "paused"}, {"resume", ""}, {"kill", "stopped"}, {"restart", ""},
		{"cut", "cut off"}, {"heal", ""}, {"stop", "stopped"}, {"restart", ""},
	} {
		does(t, step.action, "etcd2", step.role, "etcd2")
	}
	whole(t)
	for _, refused := range []struct{ action, who, words string }{
		{"kill", "etcd4", "they are etcd1 to etcd3"},
		{"kill", "a/b", "they are etcd1 to etcd3"},
		{"explode", "etcd1", "usage: classroom member list"},
		{"restart", "stopped", "no member matches stopped: they are etcd1 ("},
	} {
		expect(t, c.act(t, "member", refused.action, refused.who), 1, refused.words)
	}
	expect(t, c.act(t, "member", "kill"), 1, "usage: classroom member list")

	t.Run("by what they are", func(t *testing.T) {
		etcdtest.NeedsLong(t, "members are restarted again and again")
		leader := with(t, "leader")
		does(t, "kill", "leader", "stopped", leader...)
		does(t, "restart", "stopped", "", leader...)
		whole(t)

		leader = with(t, "leader")
		does(t, "cut", "leader", "cut off", leader...)
		expect(t, c.act(t, "member", "restart", "cut"), 1, "heal it first")
		does(t, "heal", "cut", "", leader...)
		whole(t)

		followers := with(t, "follower")
		does(t, "pause", "followers", "paused", followers...)
		for _, name := range followers {
			does(t, "resume", name, "", name)
		}
		whole(t)

		for _, name := range []string{"etcd1", "etcd2", "etcd3"} {
			does(t, "kill", name, "stopped", name)
		}
		expect(t, c.act(t, "member", "kill", "leader"), 1,
			"no member matches leader: they are etcd1 (stopped), etcd2 (stopped), etcd3 (stopped)\n")
		does(t, "restart", "stopped", "", "etcd1", "etcd2", "etcd3")
		whole(t)
	})
	c.end(t)
	expect(t, c.act(t, "member", "list"), 1, "no classroom runs")
}

// TestResetCommand empties the store of a classroom from another terminal, and no
// other store.
func TestResetCommand(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcdtest.Reserve(t, 4)
	flags := []string{"-members", "3", "-data", filepath.Join(t.TempDir(), "kept")}
	c := serve(t, harness.FreePorts(t, 6), nil, flags...)
	port, endpoints := strconv.Itoa(c.port), c.endpoints(3)
	client := etcdtest.Connect(t, endpoints...)
	// Named are members, as users may write them.
	for _, named := range []string{"", endpoints[1] + ", http://localhost:" + port} {
		put(t, client, "old", "value")
		got := harness.Run(t, named, nil, "classroom", "-port", port, "reset")
		if got.Status != 0 || got.Stdout != "The store is empty, at revision 1.\n" || got.Stderr != "" {
			t.Fatalf("status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
		}
		for _, endpoint := range endpoints {
			isNew(t, endpoint)
		}
	}

	// Another etcd is left alone, and so is the classroom's when another is meant.
	other := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	otherPort := strconv.Itoa(portOf(t, other))
	put(t, client, "old", "value")
	for _, refused := range []struct {
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
		got := harness.Run(t, refused.named, nil, "classroom", refused.args...)
		expect(t, got, 1, append(refused.words, "classroom: ")...)
		if got.Stdout != "" || strings.Count(got.Stderr, "\n") != 1 || strings.Contains(got.Stderr, "secret") {
			t.Errorf("%q: it is not one line, without a password:\n%s%s", refused.args, got.Stdout, got.Stderr)
		}
	}
	if get, err := client.Get(etcdtest.Soon(t), "old"); err != nil || get.Count != 1 {
		t.Errorf("a refused reset did something: %v, %v", get, err)
	}

	// It ends as ever, and the next one finds the data emptied. Its members find each
	// other on other ports.
	expect(t, c.act(t, "reset"), 0)
	c.end(t)
	c = serve(t, harness.FreePorts(t, 6), nil, flags...)
	isNew(t, c.endpoints(1)[0])
	c.end(t)
}
