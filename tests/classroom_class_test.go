package tests

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// room is a class as a teacher has it, and those who are in it.
type room struct {
	*harness.Running
	port int
	data string
	code string // by which one comes in from this machine
}

// openRoom starts a class on an etcd with so many members, and further flags.
func openRoom(t testing.TB, members int, flags ...string) *room {
	t.Helper()
	etcdtest.Reserve(t, members)
	// Two ports below that of the teacher's desk, and two for each member above it.
	r := &room{port: harness.FreePorts(t, 3+2*members) + 2, data: filepath.Join(t.TempDir(), "class")}
	r.start(t, members, flags...)
	return r
}

// start starts the class, anew when it was there before.
func (r *room) start(t testing.TB, members int, flags ...string) {
	t.Helper()
	r.Running = harness.Start(t, "", nil, "classroom", slices.Concat([]string{"-class",
		"-members", strconv.Itoa(members), "-port", strconv.Itoa(r.port), "-data", r.data, "-board", "off"}, flags)...)
	running := r.Running
	t.Cleanup(func() {
		// Its members write into the folder of the data, which goes next.
		running.Process.Signal(os.Interrupt)
		select {
		case <-running.Ended:
		case <-time.After(harness.Limit):
			t.Error("the class does not end")
		}
	})
	r.Await(t, "Ctrl-C ends the class.")
	found := regexp.MustCompile(`go run \./classroom join \S+/(\S+) NAME`).FindStringSubmatch(r.Stdout.String())
	if found == nil {
		t.Fatalf("it does not tell how to join:\n%s", r.Stdout)
	}
	r.code = fmt.Sprintf("127.0.0.1:%d/%s", r.port-1, found[1])
}

// act runs a command of the teacher's.
func (r *room) act(t testing.TB, args ...string) harness.Result {
	t.Helper()
	return harness.Run(t, "", nil, "classroom", append(args, "-port", strconv.Itoa(r.port))...)
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
	harness.NoError(t, err)
	s.terminal = terminal
	return harness.Command(t, cmd)
}

// TestClass has two learners in a class: each has their keys, both have those of the
// class, and the teacher acts on them.
func TestClass(t *testing.T) {
	t.Parallel()
	r := openRoom(t, 1)
	if got := r.act(t, "class", "list"); got.Status != 0 || got.Stdout != "Nobody has joined yet.\n" {
		t.Errorf("an empty class: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	ann, bob := r.sit(t, "ann"), r.sit(t, "bob")
	for _, words := range []string{"ann is in the class.", "export ETCDCTL_ENDPOINTS=" + ann.own, ann.common} {
		if !strings.Contains(ann.Stdout.String(), words) {
			t.Errorf("ann is not told %q:\n%s", words, ann.Stdout)
		}
	}
	for _, s := range []*seat{ann, bob} {
		got := harness.Run(t, s.own, nil, "02-put")
		if got.Status != 0 || !strings.Contains(got.Stdout, "replaced   nothing") {
			t.Errorf("%s, 02-put: status %d\n%s%s", s.name, got.Status, got.Stdout, got.Stderr)
		}
	}
	if got := harness.Run(t, ann.common, nil, "08-txn-lock", "-name", "ann"); !strings.Contains(got.Stdout, "done by ann") {
		t.Errorf("ann, 08-txn-lock: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	says := func(words string, args ...string) {
		t.Helper()
		got := r.act(t, args...)
		if said := got.Stdout + got.Stderr; !strings.Contains(said, words) || strings.Count(said, "\n") > 3 {
			t.Errorf("%s: want %q, got:\n%s", strings.Join(args, " "), words, said)
		}
	}
	says("ann, here, keys: 1, exercises passed: ", "class", "list")
	says("bob, here, keys: 1, exercises passed: ", "class", "list")
	says("bob has no keys any more. There were 1.", "class", "reset", "bob")
	says("bob, here, keys: 0, ", "class", "list")
	says("The class as a whole has no keys any more. There were 1.", "class", "reset", "class")
	says("There is room again.", "class", "room")
	says("nobody in this class has the name eve", "class", "remove", "eve")
	says("The store is shared, and at revision", "reset")

	// A learner resets their own keys as the page says, and nothing else.
	got := harness.Run(t, "", nil, "classroom", "reset", "-port", strconv.Itoa(ann.port))
	if got.Status != 0 || !strings.Contains(got.Stdout, "Your keys are gone.") {
		t.Errorf("ann resets: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	says("ann, here, keys: 0, ", "class", "list")
	for _, args := range [][]string{{"member", "kill", "etcd1"}, {"class", "list"}} {
		got := harness.Run(t, "", nil, "classroom", append(args, "-port", strconv.Itoa(ann.port))...)
		if got.Status != 1 || !strings.Contains(got.Stderr, "that is for the teacher") {
			t.Errorf("ann, %s: status %d\n%s%s", strings.Join(args, " "), got.Status, got.Stdout, got.Stderr)
		}
	}

	// A desk has the place of an etcd, which has to be free.
	if got := (&seat{name: "eve", home: t.TempDir(), port: r.port}).try(t, r.code).Wait(t); got.Status != 1 ||
		!strings.Contains(got.Stderr, fmt.Sprintf("listens on 127.0.0.1:%d, which the class needs: stop it", r.port-2)) {
		t.Errorf("a second desk: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}

	// A second etcd at the port of a desk, and a board of one, are no use.
	for words, got := range map[string]harness.Result{
		"your desk in a class listens on " + ann.own: harness.Run(t, "", nil, "classroom", "-port", strconv.Itoa(ann.port)),
		ann.own + " is your desk in a class":         harness.Run(t, ann.own, nil, "classroom"),
		ann.common + " is your desk in a class":      harness.Run(t, ann.common, nil, "classroom"),
	} {
		if got.Status != 1 || !strings.Contains(got.Stderr, words) {
			t.Errorf("status %d, want %q\n%s%s", got.Status, words, got.Stdout, got.Stderr)
		}
	}

	// Who leaves is not there at once, and comes back with the same key alone.
	harness.Interrupt(t, ann.Running)
	if got := ann.Wait(t); got.Status != 0 || !strings.Contains(got.Stdout, "ann leaves the class. The keys stay.") {
		t.Errorf("ann leaves: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	says("ann, away, ", "class", "list")
	ann.join(t, r.code)
	imposter := newSeat(t, "ann")
	if got := imposter.try(t, r.code).Wait(t); got.Status != 1 || !strings.Contains(got.Stderr, "is somebody else's in this class") {
		t.Errorf("another ann: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	says("ann is free.", "class", "free", "ann")
	says("bob is removed.", "class", "remove", "bob")
	for s, words := range map[*seat]string{ann: "was freed by the teacher", bob: "was removed from this class"} {
		if got := s.Wait(t); got.Status != 1 || !strings.Contains(got.Stderr, words) {
			t.Errorf("%s: status %d, want %q\n%s%s", s.name, got.Status, words, got.Stdout, got.Stderr)
		}
	}
	imposter.join(t, r.code)
}

// TestClassComesBack kills a teacher's machine, as far as a process can, and starts the
// class anew on its data: desks that run go on, with nothing typed.
func TestClassComesBack(t *testing.T) {
	etcdtest.NeedsLong(t, "it starts a class twice")
	t.Parallel()
	r := openRoom(t, 1)
	ann := r.sit(t, "ann")
	if got := harness.Run(t, ann.own, nil, "02-put"); got.Status != 0 {
		t.Fatalf("status %d\n%s", got.Status, got.Stderr)
	}
	code := r.code
	harness.NoError(t, r.Process.Kill())
	<-r.Ended
	ann.Await(t, "does not answer. The desk goes on trying.")
	got := harness.Run(t, ann.own, nil, "02-put")
	if got.Status != 1 || !strings.Contains(got.Stderr, "the class's etcd does not answer") || strings.Contains(got.Stderr, "nothing listens") {
		t.Errorf("without an etcd: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	r.start(t, 1)
	if r.code != code {
		t.Errorf("the code is %s, and was %s", r.code, code)
	}
	ann.Await(t, "The class's etcd is back.")
	if got := harness.Run(t, ann.own, nil, "02-put"); got.Status != 0 || !strings.Contains(got.Stdout, `replaced   "world"`) {
		t.Errorf("02-put: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	harness.Eventually(t, "ann is there again", func() bool {
		return strings.Contains(r.act(t, "class", "list").Stdout, "ann, here, ")
	})
	// Another address of the same class is typed at the desk.
	fmt.Fprintf(ann.terminal, "localhost:%d\n", r.port-1)
	ann.Await(t, "The desk has found the class at localhost:")
	if got := harness.Run(t, ann.own, nil, "02-put"); got.Status != 0 {
		t.Errorf("at another address: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	harness.Interrupt(t, r.Running)
	if got := r.Wait(t); got.Status != 0 || got.Stderr != "" {
		t.Errorf("the class ends with status %d\n%s", got.Status, got.Stderr)
	}
	// What a class has left is none without -class, and what an etcd has left no class.
	plain := filepath.Join(t.TempDir(), "plain")
	harness.NoError(t, os.MkdirAll(filepath.Join(plain, "etcd1", "member"), 0o700))
	if got := harness.Run(t, "", nil, "classroom", "-class", "-board", "off", "-data", plain, "-port", strconv.Itoa(r.port)); got.Status != 1 ||
		!strings.Contains(got.Stderr, "has the data of an etcd without a class") {
		t.Errorf("the data of an etcd for a class: status %d\n%s", got.Status, got.Stderr)
	}
	if got := harness.Run(t, "", nil, "classroom", "-board", "off", "-data", r.data); got.Status != 1 ||
		!strings.Contains(got.Stderr, "has the data of a class") {
		t.Errorf("its data without -class: status %d\n%s", got.Status, got.Stderr)
	}
}
