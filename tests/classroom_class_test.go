package tests

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// room is a class as a teacher has it, and those who are in it.
type room struct {
	classroom
	data string
	code string // by which one comes in from this machine
}

// openRoom starts a class on an etcd with so many members, and further flags.
func openRoom(t testing.TB, members int, flags ...string) *room {
	t.Helper()
	etcdtest.Reserve(t, members)
	r := &room{data: filepath.Join(t.TempDir(), "class")}
	// Two ports below that of the teacher's desk, and two for each member above it.
	r.start(t, harness.FreePorts(t, 3+2*members)+2, members, flags...)
	return r
}

// start starts the class, anew when it was there before.
func (r *room) start(t testing.TB, port, members int, flags ...string) {
	t.Helper()
	r.classroom = serve(t, port, nil, append([]string{"-class", "-members", strconv.Itoa(members), "-data", r.data, "-board", "off"}, flags...)...)
	found := regexp.MustCompile(`go run \./classroom join \S+/(\S+) NAME`).FindStringSubmatch(r.Stdout.String())
	if found == nil {
		t.Fatalf("it does not tell how to join:\n%s", r.Stdout)
	}
	r.code = fmt.Sprintf("127.0.0.1:%d/%s", r.port-1, found[1])
}

// seat is a learner's desk.
type seat struct {
	*harness.Running
	name     string
	home     string // has the learner's key
	port     int
	own      string    // where their own keys are
	common   string    // where those of the class are
	terminal io.Writer // what they type
}

// sit has a learner join, from a machine of their own as far as keys go.
func (r *room) sit(t testing.TB, name string) *seat {
	t.Helper()
	s := newSeat(t, name)
	s.join(t, r.code)
	return s
}

// newSeat is where a learner can join.
func newSeat(t testing.TB, name string) *seat {
	t.Helper()
	port := harness.FreePorts(t, 3) + 2
	return &seat{name: name, home: t.TempDir(), port: port,
		own: fmt.Sprint("127.0.0.1:", port), common: fmt.Sprint("127.0.0.1:", port-2)}
}

func (s *seat) join(t testing.TB, code string) {
	t.Helper()
	s.Running = s.try(t, code)
	s.Await(t, "Ctrl-C leaves.")
}

// try joins, or is refused.
func (s *seat) try(t testing.TB, code string) *harness.Running {
	t.Helper()
	cmd := exec.Command(harness.Program(t, "classroom"), "join", code, s.name, "-port", strconv.Itoa(s.port))
	cmd.Env = harness.Env("XDG_CONFIG_HOME=" + s.home)
	terminal, err := cmd.StdinPipe()
	etcdtest.NoError(t, err)
	s.terminal = terminal
	return harness.Command(t, cmd)
}

// act runs a command at the desk.
func (s *seat) act(t testing.TB, args ...string) harness.Result {
	t.Helper()
	return classroom{port: s.port}.act(t, args...)
}

// TestClass has two learners in a class: each has their keys, both have those of the
// class, and the teacher acts on them.
func TestClass(t *testing.T) {
	t.Parallel()
	r := openRoom(t, 1)
	says := func(words string, args ...string) {
		t.Helper()
		got := r.act(t, args...)
		if said := got.Stdout + got.Stderr; !strings.Contains(said, words) || strings.Count(said, "\n") > 3 {
			t.Errorf("%s: want %q, got:\n%s", strings.Join(args, " "), words, said)
		}
	}
	says("Nobody has joined yet.\n", "class", "list")
	ann, bob := r.sit(t, "ann"), r.sit(t, "bob")
	for _, words := range []string{"ann is in the class.", "export ETCDCTL_ENDPOINTS=" + ann.own, ann.common} {
		if !strings.Contains(ann.Stdout.String(), words) {
			t.Errorf("ann is not told %q:\n%s", words, ann.Stdout)
		}
	}
	for _, s := range []*seat{ann, bob} {
		expect(t, harness.Run(t, s.own, nil, "02-put"), 0, "replaced   nothing")
	}
	expect(t, harness.Run(t, ann.common, nil, "08-txn-lock", "-name", "ann"), 0, "done by ann")
	says("ann, here, keys: 1, exercises passed: ", "class", "list")
	says("bob, here, keys: 1, exercises passed: ", "class", "list")
	says("bob has no keys any more. There were 1.", "class", "reset", "bob")
	says("bob, here, keys: 0, ", "class", "list")
	says("The class as a whole has no keys any more. There were 1.", "class", "reset", "class")
	says("There is room again.", "class", "room")
	says("nobody in this class has the name eve", "class", "remove", "eve")
	says("The store is shared, and at revision", "reset")

	// A learner resets their own keys as the page says, and nothing else.
	expect(t, ann.act(t, "reset"), 0, "Your keys are gone.")
	says("ann, here, keys: 0, ", "class", "list")
	expect(t, ann.act(t, "member", "kill", "etcd1"), 1, "that is for the teacher")
	expect(t, ann.act(t, "class", "list"), 1, "that is for the teacher")

	// A desk has the place of an etcd, which has to be free.
	expect(t, (&seat{name: "eve", home: t.TempDir(), port: r.port}).try(t, r.code).Wait(t),
		1, fmt.Sprintf("listens on 127.0.0.1:%d, which the class needs: stop it", r.port-2))
	// A second etcd at the port of a desk, and a board of one, are no use.
	expect(t, ann.act(t), 1, "your desk in a class listens on "+ann.own)
	for _, endpoint := range []string{ann.own, ann.common} {
		expect(t, harness.Run(t, endpoint, nil, "classroom"), 1, endpoint+" is your desk in a class")
	}

	// Who leaves is not there at once, and comes back with the same key alone.
	harness.Interrupt(t, ann.Running)
	expect(t, ann.Wait(t), 0, "ann leaves the class. The keys stay.")
	says("ann, away, ", "class", "list")
	ann.join(t, r.code)
	imposter := newSeat(t, "ann")
	expect(t, imposter.try(t, r.code).Wait(t), 1, "is somebody else's in this class")
	says("ann is free.", "class", "free", "ann")
	says("bob is removed.", "class", "remove", "bob")
	expect(t, ann.Wait(t), 1, "was freed by the teacher")
	expect(t, bob.Wait(t), 1, "was removed from this class")
	imposter.join(t, r.code)
}

// TestClassComesBack kills a teacher's machine, as far as a process can, and starts the
// class anew on its data: desks that run go on, with nothing typed.
func TestClassComesBack(t *testing.T) {
	etcdtest.NeedsLong(t, "it starts a class twice")
	t.Parallel()
	r := openRoom(t, 1)
	ann := r.sit(t, "ann")
	expect(t, harness.Run(t, ann.own, nil, "02-put"), 0)
	code := r.code
	etcdtest.NoError(t, r.Process.Kill())
	<-r.Ended
	ann.Await(t, "does not answer. The desk goes on trying.")
	got := harness.Run(t, ann.own, nil, "02-put")
	expect(t, got, 1, "the class's etcd does not answer")
	if strings.Contains(got.Stderr, "nothing listens") {
		t.Errorf("it blames the desk:\n%s", got.Stderr)
	}
	r.start(t, r.port, 1)
	if r.code != code {
		t.Errorf("the code is %s, and was %s", r.code, code)
	}
	ann.Await(t, "The class's etcd is back.")
	expect(t, harness.Run(t, ann.own, nil, "02-put"), 0, `replaced   "world"`)
	etcdtest.Eventually(t, "ann is there again", func() bool {
		return strings.Contains(r.act(t, "class", "list").Stdout, "ann, here, ")
	})
	// Another address of the same class is typed at the desk.
	fmt.Fprintf(ann.terminal, "localhost:%d\n", r.port-1)
	ann.Await(t, "The desk has found the class at localhost:")
	expect(t, harness.Run(t, ann.own, nil, "02-put"), 0)
	r.end(t)
	// What a class has left is none without -class, and what an etcd has left no class.
	plain := filepath.Join(t.TempDir(), "plain")
	etcdtest.NoError(t, os.MkdirAll(filepath.Join(plain, "etcd1", "member"), 0o700))
	expect(t, r.act(t, "-class", "-board", "off", "-data", plain), 1, "has the data of an etcd without a class")
	expect(t, r.act(t, "-board", "off", "-data", r.data), 1, "has the data of a class")
}
