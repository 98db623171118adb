package check

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/etcd-by-example/classroom/process"
	"example.com/etcd-by-example/classroom/relay"
)

// program is a run of what is checked, behind relays of its own.
type program struct {
	round  *round
	args   []string
	env    []string       // further environment
	relays []*relay.Relay // in the order of the members

	mu      sync.Mutex
	strikes []*strike
	seen    func(*relay.Message) // called with each message, one after the other; or nil

	process *os.Process
	began   time.Time
	frozen  bool
	out     output
	said    output        // on standard error
	ended   chan struct{} // closed when it has ended
	took    time.Duration // how long it ran
	status  int           // -1 when it was killed
}

// program prepares a run, with those arguments, so that strikes can be set before it
// starts.
func (r *round) program(args ...string) *program {
	p := &program{round: r, args: args, ended: make(chan struct{})}
	// On a busy machine etcd may need longer for its first answer than shared gives it.
	p.env = []string{"ETCDCTL_DIAL_TIMEOUT=10s"}
	p.out.woken, p.said.woken = r.woken, r.woken
	r.programs = append(r.programs, p)
	instead := map[string]string{}
	for _, m := range r.etcd.Members {
		through, err := relay.Start(m.Endpoint, 0)
		r.must(err)
		p.relays = append(p.relays, through)
		instead[m.Endpoint] = through.Address
		through.Hook(p.hook)
		ctx, cancel := r.soon()
		defer cancel()
		r.must(through.Ready(ctx))
	}
	for _, through := range p.relays {
		through.Advertise(instead)
	}
	return p
}

// endpoints is where it reaches etcd: its relays.
func (p *program) endpoints() string {
	var addresses []string
	for _, through := range p.relays {
		addresses = append(addresses, through.Address)
	}
	return strings.Join(addresses, ",")
}

// start starts the program.
func (p *program) start() { p.startAt(p.endpoints()) }

// startAt starts it against other endpoints than its relays.
func (p *program) startAt(endpoints string) {
	cmd := exec.Command(p.round.binary, p.args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "ETCD")
	}), append(p.env, "ETCDCTL_ENDPOINTS="+endpoints)...)
	cmd.Stdout, cmd.Stderr = &p.out, &p.said
	// It may have started something that holds its output open.
	cmd.WaitDelay = time.Second
	p.began = time.Now()
	p.round.must(process.Start(cmd))
	p.process = cmd.Process
	go func() {
		err := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			p.status = exit.ExitCode()
		}
		p.took = time.Since(p.began)
		close(p.ended)
		wake(p.round.woken)
	}()
}

// run starts the program and waits for its end, which has to come within limit.
func (p *program) run(limit time.Duration) {
	p.start()
	p.end(limit)
}

// end waits for the end of the program, which has to come within limit, or later on a
// machine that is slow.
func (p *program) end(limit time.Duration) {
	limit = p.round.granted(limit)
	if !p.round.wait(limit, p.hasEnded) {
		p.round.refuse(0, "After %v the program still runs. Which of its waits has no end?", limit)
	}
}

func (p *program) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// succeed waits for the end of the program, which has to have status 0. lesson is the
// sentence for one that has another.
func (p *program) succeed(limit time.Duration, lesson string) {
	p.end(limit)
	if p.status != 0 {
		p.round.refuse(0, "The program ended with status %d: %s. %s", p.status, p.lastWords(), lesson)
	}
}

// ownLine is the place in a learner's file that a panic tells.
var ownLine = regexp.MustCompile(`\bmain\.go:[0-9]+`)

// lastWords is the line of standard error that says most.
func (p *program) lastWords() string {
	lines := strings.Split(strings.TrimSpace(p.said.String()), "\n")
	for _, line := range lines {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			if at := ownLine.FindString(p.said.String()); at != "" {
				return line + ", at " + at
			}
			return line
		}
	}
	// What is indented explains the line above it.
	last := ""
	for _, line := range lines {
		if !strings.HasPrefix(line, " ") {
			last = line
		}
	}
	if last == "" {
		return "it did not say why"
	}
	return last
}

// interrupt is a Ctrl-C.
func (p *program) interrupt() { p.signal("interrupt", process.Interrupt(p.process)) }

// kill is a crash.
func (p *program) kill() {
	p.thaw()
	p.signal("kill", process.KillGroup(p.process))
	p.round.wait(judgeLimit, p.hasEnded)
}

// freeze has the program stand still until thaw: as a whole where the system can do
// that, and else all that it sends and hears.
func (p *program) freeze() {
	p.frozen = true
	err := process.Pause(p.process)
	if !errors.Is(err, errors.ErrUnsupported) {
		p.signal("freeze", err)
		return
	}
	for _, through := range p.relays {
		through.Hold()
	}
}

// thaw undoes freeze.
func (p *program) thaw() {
	if !p.frozen {
		return
	}
	p.frozen = false
	err := process.Resume(p.process)
	if !errors.Is(err, errors.ErrUnsupported) {
		p.signal("resume", err)
		return
	}
	for _, through := range p.relays {
		p.round.must(through.Resume())
	}
}

// signal fails when a signal could not be sent; that the program has ended by itself is
// no failure.
func (p *program) signal(what string, err error) {
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.round.must(fmt.Errorf("%s the program: %w", what, err))
	}
}

// cut breaks the program's connections, and has new ones stand still until heal. To
// refuse them would give the port away: somebody else may take it meanwhile.
func (p *program) cut() {
	for _, through := range p.relays {
		through.Hold()
		through.Cut()
	}
}

// heal undoes cut.
func (p *program) heal() {
	for _, through := range p.relays {
		p.round.must(through.Resume())
	}
}

// close ends what is left of the program, and of its relays.
func (p *program) close() {
	if p.process != nil {
		process.KillGroup(p.process)
		<-p.ended
	}
	for _, through := range p.relays {
		through.Close()
	}
}

const (
	// outputLimit is how much of what a program prints is kept.
	outputLimit = 1 << 20

	// judgedLimit is how much is kept of the lines that are judged.
	judgedLimit = 16 << 20
)

// output takes what a program prints.
type output struct {
	woken  chan struct{}  // is told of each word
	judged *regexp.Regexp // what the lines match that are kept when there is much else; or nil

	mu   sync.Mutex
	text bytes.Buffer // whole lines
	rest []byte       // the line that has not ended
	cut  bool         // something was printed that is in neither
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	o.rest = append(o.rest, text...)
	for {
		end := bytes.IndexByte(o.rest, '\n') + 1
		if end == 0 {
			break
		}
		o.keep(o.rest[:end])
		o.rest = o.rest[end:]
	}
	if len(o.rest) > outputLimit {
		o.keep(o.rest)
		o.rest = nil
	}
	o.mu.Unlock()
	wake(o.woken)
	return len(text), nil
}

// keep takes a line, unless there is no room for it.
func (o *output) keep(line []byte) {
	room := outputLimit
	if o.judged != nil && o.judged.Match(bytes.TrimSuffix(line, []byte("\n"))) {
		room = judgedLimit
	}
	if o.text.Len()+len(line) > room {
		o.cut = true
		return
	}
	o.text.Write(line)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String() + string(o.rest)
}

// isCut returns whether something was printed that was not kept.
func (o *output) isCut() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cut
}

// lines are the whole lines that were printed.
func (o *output) lines() []string {
	text := o.String()
	end := strings.LastIndexByte(text, '\n')
	if end < 0 {
		return nil
	}
	return strings.Split(text[:end], "\n")
}
