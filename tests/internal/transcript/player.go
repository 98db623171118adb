//go:build unix

package transcript

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// player runs the steps of a page, each in its terminal.
type player struct {
	dir       string
	machine   // the one that has no name
	machines  map[string]machine
	terminals map[string]*terminal
	code      string // the join code that was printed last

	// watchers returns how many watchers etcd has, and healthy whether it answers.
	// They are asked about commands that print nothing at first: a watch stands
	// when etcd has one more watcher, an etcd when it answers.
	watchers func(context.Context) (int, error)
	healthy  func(context.Context) bool

	// recording is the history for the next picture, or nil when there is none.
	recording *recording

	// update has the player take what is printed instead of comparing it.
	update bool
}

// machine is what terminals are at.
type machine struct {
	env     []string
	network harness.Network
}

func (p *player) close() {
	if p.recording != nil {
		p.recording.close()
	}
	for _, t := range p.terminals {
		t.close()
	}
}

// terminal returns the terminal of that name, which it opens the first time, at a machine.
func (p *player) terminal(name string, at machine) (t *terminal, err error) {
	if t := p.terminals[name]; t != nil {
		return t, nil
	}
	err = at.network(func() error {
		t, err = openTerminal(p.dir, at.env)
		return err
	})
	if err == nil {
		p.terminals[name] = t
	}
	return t, err
}

// Etcd starts the etcd of a session that does not start one by itself. A
// learner has it running since the beginning of the page.
func (p *player) startEtcd() error {
	_, err := p.begin("Terminal 1", "go run ./classroom", "Ctrl-C stops it.")
	return err
}

// begin starts what a terminal is for, and returns what it has printed up to a line.
func (p *player) begin(name, command, last string) (string, error) {
	t, err := p.terminal(name, p.machine)
	if err != nil {
		return "", err
	}
	if err := t.send(command); err != nil {
		return "", err
	}
	var printed []string
	for !slices.Contains(printed, last) {
		line, err := t.collect(1, stepLimit)
		printed = append(printed, line...)
		if err != nil {
			return "", fmt.Errorf("%s: %w\n%s", command, err, strings.Join(printed, "\n"))
		}
	}
	return strings.Join(printed, "\n"), nil
}

// play runs the steps of one block and returns the first difference.
func (p *player) play(ctx context.Context, b *Block) error {
	at := p.machine
	if name := b.machine(); name != "" {
		at = p.machines[name]
	}
	t, err := p.terminal(b.terminal, at)
	if err != nil {
		return err
	}
	for _, s := range b.Steps {
		if err := p.step(ctx, t, s); err != nil {
			return fmt.Errorf("line %d, in %s: %w", s.line, b.terminal, err)
		}
		if s.draws {
			if p.recording, err = startRecording(ctx, p.network); err != nil {
				return fmt.Errorf("line %d: %w", s.line, err)
			}
		}
	}
	return nil
}

func (p *player) step(ctx context.Context, t *terminal, s *step) (err error) {
	silent := s.goesOn && s.Command != "" && len(s.want) == 0 && !p.update
	stands := func() (bool, error) { return p.healthy(ctx), nil }
	if silent && strings.Contains(s.Command, " watch ") {
		before, err := p.watchers(ctx)
		if err != nil {
			return err
		}
		stands = func() (bool, error) {
			now, err := p.watchers(ctx)
			return now > before, err
		}
	}
	switch {
	case strings.Contains(s.Command, "<code>") && p.code == "":
		err = errors.New("no <code> was printed before")
	case s.Command != "":
		err = t.send(strings.ReplaceAll(s.Command, "<code>", p.code))
	case s.key != "":
		_, err = t.file.WriteString(s.key)
	}
	if err != nil {
		return err
	}
	switch {
	case silent:
		return t.await(stands)
	case s.goesOn && p.update && len(s.want) > 0:
		// A program may take longer than quiet to start, beside others.
		s.got, err = t.untilQuiet(stepLimit)
	case s.goesOn && p.update:
		s.got, err = t.untilQuiet(quiet)
	case s.goesOn:
		s.got, err = t.collect(len(s.want), stepLimit)
	default:
		s.got, err = t.collect(-1, stepLimit)
	}
	if s.key != "" {
		// What shows the key itself, as a shell in a container does, or ends
		// the line on which it stands, shows nothing that the page does not.
		for len(s.got) > 0 && (s.got[0] == "" || keys[s.got[0]] != "") {
			s.got = s.got[1:]
		}
	}
	for _, line := range s.got {
		p.code = cmp.Or(joinCode.FindString(line), p.code)
	}
	if p.update && err == nil {
		return nil
	}
	return errors.Join(compare(s.want, s.got), err)
}

// Play plays a session of a page in terminals of its own, and puts what is printed into
// the session. It fails the test at the first line that is not as the page shows it, and
// when a picture is not what the run has drawn; with -update it takes what is printed,
// and writes the picture. It skips the test where something is missing that the session
// needs.
func Play(t *testing.T, page *Page, session Session) {
	t.Helper()
	etcdtest.NoError(t, warm())
	members, checks := 1, session.types(`classroom check `)
	if session.types(`-members 3`) {
		members = 3
	}
	if checks {
		members += 3
	}
	etcdtest.ReserveFirst(t, members)
	p := newPlayer(t, session[0].docker)
	if checks {
		p.env = append(p.env, "GOMAXPROCS=1") // A check has fewer members at a time.
	}
	if checks || session.types(`classroom (-class|join) |^rm -r \w`) {
		// The developer's own copies of exercises stay as they are: they are checked, and
		// a class hears of them. What another session makes is not in the way.
		p.dir = harness.CopyOfTree(t)
	}
	for _, b := range session {
		if name := b.machine(); name != "" && p.machines[name].network == nil {
			own, err := newMachine(t)
			if err != nil {
				etcdtest.SkipUnlessCI(t, err)
			}
			own.network.Cable(t, p.network, 2378, 2380, 2382, 2384) // A class is reached from it.
			p.machines[name] = own
		}
	}
	t.Cleanup(p.close)
	if session.needsEtcd() {
		etcdtest.NoError(t, p.startEtcd())
	}
	for _, b := range session {
		for _, exercise := range b.mended {
			etcdtest.NoError(t, p.mend(exercise))
		}
		if err := p.play(t.Context(), b); err != nil {
			t.Fatalf("%s, %v", page.Name, err)
		}
		if b.Picture != "" {
			etcdtest.NoError(t, p.draw(t.Context(), page, b))
		}
	}
}

// mend puts the solution of an exercise in the place of the reader's copy.
func (p *player) mend(exercise string) error {
	solution, err := os.ReadFile(filepath.Join(p.dir, "exercises", "solutions", exercise, "main.go"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, "my", exercise, "main.go"), solution, 0o600)
}

// newPlayer returns what plays one session of a page. A session in a network of its
// own runs beside the others. One that needs the usual port of the machine waits
// for it.
func newPlayer(t *testing.T, docker bool) *player {
	t.Helper()
	player := &player{dir: harness.Root, machines: map[string]machine{}, terminals: map[string]*terminal{}, update: harness.Update()}
	if docker {
		etcdtest.NeedsLong(t, "it brings up containers")
		compose := harness.ComposeCommands(t)
		harness.UsualPort(t)
		harness.EtcdImage(t)
		const project = "etcd-by-example-page"
		harness.ComposeAtEnd(t, project)
		t.Cleanup(func() { harness.ComposeDown(t, compose[0], project) })
		player.machine = machine{harness.Env("TERM=dumb", "COMPOSE_PROJECT_NAME="+project), harness.Machine}
		if compose[0][0] == "docker-compose" {
			// The page says what to type when this is all there is.
			player.env = append(player.env, "BASH_FUNC_docker%%=() { shift; docker-compose \"$@\"; }")
		}
	} else {
		var err error
		if player.machine, err = newMachine(t); err != nil {
			t.Logf("it takes the usual port, having no network of its own: %v", err)
			harness.UsualPort(t)
			player.network = harness.Machine
		}
	}
	player.watchers, player.healthy = player.network.Watchers, player.network.Healthy
	return player
}

// newMachine returns a machine with a home folder and a network. The error says that
// networks cannot be made here.
func newMachine(t *testing.T) (machine, error) {
	t.Helper()
	network, err := harness.NewNetwork(t)
	return machine{slices.Concat(harness.Env("TERM=dumb"), ownHome(t), played(t)), network}, err
}

// ownHome returns variables that give a session a home folder of its own: the
// classroom has its socket there, and the page may put a program into it. The go
// command keeps its caches, and takes modules from there alone, as the network of
// the session leads nowhere.
func ownHome(t *testing.T) []string {
	t.Helper()
	var env struct{ GOCACHE, GOENV, GOMODCACHE, GOPATH string }
	harness.GoJSON(t, &env, "env", "-json", "GOCACHE", "GOENV", "GOMODCACHE", "GOPATH")
	// The path of a socket may have about 100 bytes. t.TempDir is too long.
	home, err := os.MkdirTemp("", "home-")
	etcdtest.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(home) })
	return []string{
		"HOME=" + home, "XDG_CACHE_HOME=" + home, "XDG_CONFIG_HOME=" + home,
		"GOCACHE=" + env.GOCACHE, "GOENV=" + env.GOENV,
		"GOMODCACHE=" + env.GOMODCACHE, "GOPATH=" + env.GOPATH,
		"GOPROXY=file://" + env.GOMODCACHE + "/cache/download", "GOSUMDB=off",
	}
}

// warm builds what the pages use. With -long it also has the go command do so, once, so
// that their transcripts are those of a second run, without "go: downloading", and the
// sessions do not link the same programs side by side.
var warm = sync.OnceValue(func() error {
	if _, err := harness.Built(); err != nil || !etcdtest.Long() {
		return err
	}
	for _, args := range [][]string{
		{"tool", "etcdctl", "version"},
		{"run", "-exec", "true", "./classroom"}, // Builds it, and runs true.
		{"run", "-exec", "true", harness.Server},
	} {
		build := exec.Command("go", args...)
		build.Dir = harness.Root
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go %q: %w\n%s", args, err, output)
		}
	}
	return nil
})

// played returns variables that have a program of ours answer to go, with -long none: a
// go command that has to look whether a program is built takes longer than most programs
// of the pages.
func played(t *testing.T) []string {
	t.Helper()
	if etcdtest.Long() {
		return nil
	}
	built, err := harness.Built()
	etcdtest.NoError(t, err)
	command, err := exec.LookPath("go")
	etcdtest.NoError(t, err)
	return []string{"PLAY_BUILT=" + built, "PLAY_GO=" + command,
		"PATH=" + built + string(filepath.ListSeparator) + os.Getenv("PATH")}
}
