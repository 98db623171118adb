//go:build unix

package tests

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"
)

const (
	// prompt is what the shell prints when a command has ended.
	prompt = "--etcd-by-example-prompt--"

	// stepLimit bounds how long a step may take.
	stepLimit = 2 * time.Minute

	// quiet is how long nothing is printed before -update takes it that a
	// command which runs on has nothing more to say for now.
	quiet = 4 * time.Second
)

// errTimeout is returned when a terminal does not print what is waited for.
var errTimeout = errors.New("not printed in time")

// terminal is a shell at a pseudo-terminal of its own, as a learner's is.
type terminal struct {
	shell *exec.Cmd
	file  *os.File
	lines chan string // what is printed; the prompt is a line of its own
}

// openTerminal starts a shell in dir and waits for its prompt.
func openTerminal(dir string, env []string) (*terminal, error) {
	shell := exec.Command("bash", "--noprofile", "--norc", "--noediting", "-i")
	shell.Dir = dir
	shell.Env = append(env, "PS1="+prompt+"\n", "PS2=", "HISTFILE=",
		"PROMPT_COMMAND=", "BASH_SILENCE_DEPRECATION_WARNING=1")
	file, err := pty.StartWithSize(shell, &pty.Winsize{Rows: 50, Cols: 500})
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	t := &terminal{shell: shell, file: file, lines: make(chan string, 10000)}
	go t.read()
	// Nothing of what is typed is to be seen among what is printed.
	if err := t.send("stty -echo -onlcr; set +H; unset HISTFILE; echo ready"); err != nil {
		return nil, err
	}
	for deadline := time.After(10 * time.Second); ; {
		select {
		case line := <-t.lines:
			if line == "ready" {
				_, err := t.collect(-1, 10*time.Second)
				return t, err
			}
		case <-deadline:
			return nil, fmt.Errorf("open a terminal: %w", errTimeout)
		}
	}
}

// Escape sequences that colour or move; they are not text.
var escape = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

func (t *terminal) read() {
	defer close(t.lines)
	scanner := bufio.NewScanner(t.file)
	for scanner.Scan() {
		line := strings.TrimRight(escape.ReplaceAllString(scanner.Text(), ""), "\r")
		if before, found := strings.CutSuffix(line, prompt); found {
			if before != "" {
				t.lines <- before
			}
			line = prompt
		}
		t.lines <- line
	}
}

func (t *terminal) send(text string) error {
	_, err := t.file.WriteString(text + "\n")
	return err
}

// collect returns the lines that are printed until the prompt, or the first
// count lines when count is not negative.
func (t *terminal) collect(count int, limit time.Duration) ([]string, error) {
	var lines []string
	deadline := time.After(limit)
	for count < 0 || len(lines) < count {
		select {
		case line, open := <-t.lines:
			if !open {
				return lines, errors.New("the shell has ended")
			}
			if line == prompt {
				if count >= 0 {
					return lines, errors.New("the command has ended")
				}
				return lines, nil
			}
			lines = append(lines, line)
		case <-deadline:
			return lines, errTimeout
		}
	}
	return lines, nil
}

// untilQuiet returns the lines that are printed until nothing comes any more,
// the first of them within limit.
func (t *terminal) untilQuiet(limit time.Duration) ([]string, error) {
	var lines []string
	for {
		line, err := t.collect(1, limit)
		limit = quiet
		lines = append(lines, line...)
		if errors.Is(err, errTimeout) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
}

// close ends the shell. What still runs in it gets Ctrl-C and the time to end:
// the next session may need its port.
func (t *terminal) close() {
	if _, err := t.file.WriteString(keys["^C"]); err == nil {
		t.collect(-1, 15*time.Second)
	}
	ended := make(chan struct{})
	go func() {
		t.shell.Wait()
		close(ended)
	}()
	t.shell.Process.Signal(syscall.SIGHUP)
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		t.shell.Process.Kill()
		<-ended
	}
	t.file.Close()
}

// player runs the steps of a page, each in its terminal.
type player struct {
	dir       string
	env       []string
	network   network
	terminals map[string]*terminal

	// watchers returns how many watchers etcd has, and healthy whether it answers.
	// They are asked about commands that print nothing at first: a watch stands
	// when etcd has one more watcher, an etcd when it answers.
	watchers func(context.Context) (int, error)
	healthy  func(context.Context) bool

	// update has the player take what is printed instead of comparing it.
	update bool
}

func (p *player) close() {
	for _, t := range p.terminals {
		t.close()
	}
}

// terminal returns the terminal of that name, which it opens the first time.
func (p *player) terminal(name string) (t *terminal, err error) {
	if t := p.terminals[name]; t != nil {
		return t, nil
	}
	err = p.network(func() error {
		t, err = openTerminal(p.dir, p.env)
		return err
	})
	if err == nil {
		p.terminals[name] = t
	}
	return t, err
}

// startEtcd starts the etcd of a session that does not start one by itself. A
// learner has it running since the beginning of the page.
func (p *player) startEtcd() error {
	t, err := p.terminal("Terminal 1")
	if err != nil {
		return err
	}
	if err := t.send("go run ./classroom"); err != nil {
		return err
	}
	var printed []string
	for !slices.Contains(printed, "Ctrl-C stops it.") {
		line, err := t.collect(1, stepLimit)
		printed = append(printed, line...)
		if err != nil {
			return fmt.Errorf("go run ./classroom: %w\n%s", err, strings.Join(printed, "\n"))
		}
	}
	return nil
}

// play runs the steps of one block and returns the first difference.
func (p *player) play(ctx context.Context, b *block) error {
	t, err := p.terminal(b.terminal)
	if err != nil {
		return err
	}
	for _, s := range b.steps {
		if err := p.step(ctx, t, s); err != nil {
			return fmt.Errorf("line %d, in %s: %w", s.line, b.terminal, err)
		}
	}
	return nil
}

func (p *player) step(ctx context.Context, t *terminal, s *step) (err error) {
	silent := s.goesOn && s.command != "" && len(s.want) == 0 && !p.update
	stands := func() (bool, error) { return p.healthy(ctx), nil }
	if silent && strings.Contains(s.command, " watch ") {
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
	case s.command != "":
		err = t.send(s.command)
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
	if p.update && err == nil {
		return nil
	}
	return errors.Join(compare(s.want, s.got), err)
}

// await returns when a command stands that prints nothing.
func (t *terminal) await(stands func() (bool, error)) error {
	deadline := time.After(stepLimit)
	for {
		if yes, err := stands(); yes || err != nil {
			return err
		}
		select {
		case line := <-t.lines:
			if line == prompt {
				return errors.New("the command has ended")
			}
			return fmt.Errorf("printed, but not shown: %q", line)
		case <-deadline:
			return errors.New("etcd does not notice that it runs")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
