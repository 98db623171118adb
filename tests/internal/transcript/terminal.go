//go:build unix

package transcript

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
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
	for deadline := time.After(stepLimit); ; {
		select {
		case line := <-t.lines:
			if line == "ready" {
				_, err := t.collect(-1, stepLimit)
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
		t.collect(-1, stepLimit)
	}
	ended := make(chan struct{})
	go func() {
		t.shell.Wait()
		close(ended)
	}()
	t.shell.Process.Signal(syscall.SIGHUP)
	select {
	case <-ended:
	case <-time.After(stepLimit):
		t.shell.Process.Kill()
		<-ended
	}
	t.file.Close()
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
