package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/process"
	"example.com/etcd-by-example/classroom/tempdir"
)

// stopLimit bounds how long Stop waits for a member to end by itself. A leader
// hands over to another member first, which may be gone as well.
const stopLimit = 3 * time.Second

// Member is one etcd server. Its methods may be called from several goroutines.
type Member struct {
	// Name is its name in the cluster: etcd1, etcd2 and so on.
	Name string

	// Endpoint is where it listens for clients, as host:port, or with TLS as a URL.
	Endpoint string

	// Data is its data folder. Beside it, with the ending .log, is its log.
	Data string

	// PeerURL is how the other members know it. When there are others, nobody but
	// them reaches it there.
	PeerURL string

	peers   *peers // nil when there are no others
	host    string // by which they know it
	proxy   string
	program string
	args    []string
	client  *tls.Config // how to reach it; nil without TLS
	ended   func(*Member, string)
	forget  bool // nobody keeps its data

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
	logged int64         // where the log of cmd begins in the log file
	paused bool
	awaits *atomic.Bool // would it surprise nobody if cmd ended?
}

// Actions are what users may do to a member, by the names that they type. Only
// restart looks at the context.
var Actions = map[string]func(context.Context, *Member) error{
	"stop":    func(_ context.Context, m *Member) error { return m.Stop() },
	"kill":    func(_ context.Context, m *Member) error { return m.Kill() },
	"pause":   func(_ context.Context, m *Member) error { return m.Pause() },
	"resume":  func(_ context.Context, m *Member) error { return m.Resume() },
	"cut":     func(_ context.Context, m *Member) error { return m.Cut() },
	"heal":    func(_ context.Context, m *Member) error { return m.Heal() },
	"restart": func(ctx context.Context, m *Member) error { return m.Restart(ctx) },
}

// Log returns the name of the member's log file.
func (m *Member) Log() string { return m.Data + ".log" }

// url returns where it listens for clients, as one.
func (m *Member) url() string {
	if m.client == nil {
		return "http://" + m.Endpoint
	}
	return m.Endpoint
}

// Client returns how to reach the member alone.
func (m *Member) Client() clientv3.Config {
	return clientv3.Config{Endpoints: []string{m.Endpoint}, TLS: m.client, Logger: zap.NewNop()}
}

// PID returns the member's process ID, or 0 when it does not run.
func (m *Member) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return 0
	}
	return m.cmd.Process.Pid
}

// Paused reports whether the member was paused and not resumed since.
func (m *Member) Paused() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running() && m.paused
}

// Cut cuts the member off from the other members, in both directions, until Heal.
// Clients still reach it. That lasts when the member ends; it cannot be started
// then, because without the others it would never be ready.
func (m *Member) Cut() error {
	if m.peers == nil {
		return fmt.Errorf("cut %s off: there are no other members", m.Name)
	}
	m.peers.cut(m.host)
	return nil
}

// Heal lets the member reach the others again, and them it. It does not wait for
// the member to have caught up.
func (m *Member) Heal() error {
	if m.peers == nil {
		return fmt.Errorf("heal %s: there are no other members", m.Name)
	}
	m.join()
	return nil
}

func (m *Member) join() {
	if m.peers != nil {
		m.peers.heal(m.host)
	}
}

// CutOff reports whether the member was cut off and not healed since.
func (m *Member) CutOff() bool { return m.peers != nil && m.peers.isCut(m.host) }

// State returns what is known of the member without asking it, or "" when it has to be
// asked. A member that is cut off may still call itself the leader.
func (m *Member) State() string {
	switch {
	case m.PID() == 0:
		return "stopped"
	case m.Paused():
		return "paused"
	case m.CutOff():
		return "cut off"
	default:
		return ""
	}
}

// mayStart returns an error when the member cannot be started.
func (m *Member) mayStart() error {
	if m.CutOff() {
		return fmt.Errorf("start %s: it is cut off from the other members; heal it first", m.Name)
	}
	return nil
}

// Start starts a member that has ended, with the data that it had, and returns
// when it answers reads and writes.
func (m *Member) Start(ctx context.Context) error {
	if err := m.launch(); err != nil {
		return err
	}
	return m.ready(ctx)
}

// Replace starts a member that has ended, with no data, as one that the others have
// just added under its PeerURL. It returns when the member answers reads and writes.
func (m *Member) Replace(ctx context.Context) error {
	if err := tempdir.RemoveAll(m.Data); err != nil {
		return fmt.Errorf("remove the data of %s: %w", m.Name, err)
	}
	if err := m.launch("--initial-cluster-state=existing"); err != nil {
		return err
	}
	return m.ready(ctx)
}

// Restart stops the member and starts it again, unless it is cut off.
func (m *Member) Restart(ctx context.Context) error {
	if err := m.mayStart(); err != nil {
		return err
	}
	if err := m.Stop(); err != nil {
		return err
	}
	return m.Start(ctx)
}

// Stop asks the member to end and returns when its process has ended. After a
// few seconds it is killed. A member that does not run is left alone.
func (m *Member) Stop() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return nil
	}
	m.awaits.Store(true)
	process.Resume(m.cmd.Process) // A paused member would not hear of it.
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-m.exited:
			return nil
		case <-time.After(stopLimit):
		}
	}
	return m.kill()
}

// Kill ends the member at once, as a crash does, and returns when its process
// has ended. A member that does not run is left alone.
func (m *Member) Kill() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return nil
	}
	return m.kill()
}

// Pause stops the member's process until Resume. Its connections stay open.
func (m *Member) Pause() error { return m.pause(true, "pause", process.Pause) }

// Resume lets a paused member go on.
func (m *Member) Resume() error { return m.pause(false, "resume", process.Resume) }

func (m *Member) pause(paused bool, what string, send func(*os.Process) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return fmt.Errorf("%s %s: it does not run", what, m.Name)
	}
	if err := send(m.cmd.Process); err != nil {
		return fmt.Errorf("%s %s: %w", what, m.Name, err)
	}
	m.paused = paused
	return nil
}

// running and kill are called with mu held.
func (m *Member) running() bool {
	if m.cmd == nil {
		return false
	}
	select {
	case <-m.exited:
		return false
	default:
		return true
	}
}

func (m *Member) kill() error {
	m.awaits.Store(true)
	if err := m.cmd.Process.Kill(); err != nil &&
		!errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", m.Name, err)
	}
	<-m.exited
	return nil
}

// launch starts the member's process, with further arguments, and does not wait for
// it to be ready.
func (m *Member) launch(further ...string) error {
	if err := m.mayStart(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running() {
		return fmt.Errorf("start %s: it runs already", m.Name)
	}
	program := m.program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return fmt.Errorf("start %s: %w", m.Name, err)
		}
	}
	log, err := os.OpenFile(m.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	defer log.Close()
	if m.logged, err = log.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}

	env := append(withoutEtcd(os.Environ()), memberVariable+"="+m.Name)
	if m.forget {
		env = append(env, temporaryVariable+"=yes")
	}
	if m.proxy != "" {
		env = throughProxy(env, m.proxy)
	}
	cmd := &exec.Cmd{
		Path:   program,
		Args:   slices.Concat(m.args, further),
		Env:    env,
		Stdout: log,
		Stderr: log,
	}
	// The member watches for the end of this pipe: nothing is written to it.
	if _, err := cmd.StdinPipe(); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	if err := process.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	exited, awaits := make(chan struct{}), new(atomic.Bool)
	awaits.Store(true) // Until it is ready: then who waits for that is told.
	go func() {
		cmd.Wait()
		close(exited)
		if !awaits.Load() && m.ended != nil {
			how := cmd.ProcessState.String()
			if err := m.NoRoom(); err != nil {
				how += ", " + err.Error()
			}
			m.ended(m, how)
		}
	}()
	m.cmd, m.exited, m.paused, m.awaits = cmd, exited, false, awaits
	return nil
}

// withoutEtcd drops the variables that etcd would take for flags of its own:
// ETCD_NAME or ETCD_DATA_DIR set by a user would change the member. The variable without
// which it refuses some processors is none.
func withoutEtcd(environ []string) []string {
	return slices.DeleteFunc(environ, func(variable string) bool {
		return strings.HasPrefix(variable, "ETCD_") && !strings.HasPrefix(variable, "ETCD_UNSUPPORTED_ARCH=")
	})
}

// ready returns when the member answers a linearizable read, which its health
// endpoint tries. Asking with a client would cost a second of back-off for
// each connection that comes too early.
func (m *Member) ready(ctx context.Context) error {
	m.mu.Lock()
	cmd, exited := m.cmd, m.exited
	m.mu.Unlock()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !m.healthy(ctx) || !m.serves() {
		select {
		case <-exited:
			return m.failure(cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (its log is %s)",
				m.Name, ctx.Err(), m.Log())
		case <-poll.C:
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exited == exited && m.running() {
		m.awaits.Store(false)
	}
	return nil
}

func (m *Member) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx, http.MethodGet, m.url()+"/health", nil)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: m.client, DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// serves reports whether the member itself listens for clients. Between the choice of
// its port and its start another program may have taken it, an etcd of somebody else
// for example, that answers as well, until the member has noticed.
func (m *Member) serves() bool {
	m.mu.Lock()
	from := m.logged
	m.mu.Unlock()
	log, err := os.Open(m.Log())
	if err != nil {
		return false
	}
	defer log.Close()
	text, err := io.ReadAll(io.NewSectionReader(log, from, 1<<20))
	return err == nil && bytes.Contains(text, []byte("serving client traffic"))
}

// NoRoom returns an error when the member could not write, because there was no room.
func (m *Member) NoRoom() error {
	m.mu.Lock()
	from := m.logged
	m.mu.Unlock()
	dir, instead := filepath.Dir(m.Data), "-data"
	if m.forget {
		dir, instead = os.TempDir(), "TMPDIR"
	}
	// Where there was no room for its last words either, nobody can write.
	if err := tempdir.Try(filepath.Dir(m.Data)); err != nil && tempdir.IsFull(err.Error()) {
		return tempdir.NoRoom(dir, instead)
	}
	log, err := os.Open(m.Log())
	if err != nil {
		return nil
	}
	defer log.Close()
	const last = 1 << 16
	if info, err := log.Stat(); err == nil {
		from = max(from, info.Size()-last)
	}
	text, err := io.ReadAll(io.NewSectionReader(log, from, last))
	if err == nil && tempdir.IsFull(string(text)) {
		return tempdir.NoRoom(dir, instead)
	}
	return nil
}

// failure returns why the member ended: its status, and what its log says last.
func (m *Member) failure(state *os.ProcessState) error {
	if err := m.NoRoom(); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	lines, err := tail(m.Log(), 3)
	if err != nil {
		return fmt.Errorf("start %s: it ended, and its log cannot be read: %w",
			m.Name, err)
	}
	text := strings.Join(lines, "\n  ")
	if strings.Contains(text, "ETCD_UNSUPPORTED_ARCH is not set") {
		return fmt.Errorf("start %s: etcd is not tested on %s: to run it all the same, set ETCD_UNSUPPORTED_ARCH=%[2]s",
			m.Name, runtime.GOARCH)
	}
	cause := errEnded
	if strings.Contains(text, "address already in use") ||
		strings.Contains(text, "Only one usage of each socket address") { // so Windows says it
		cause = errPort
	}
	return fmt.Errorf("start %s: %w (%v); the end of %s:\n  %s",
		m.Name, cause, state, m.Log(), text)
}

var errEnded = errors.New("it ended at once")

// tail returns the end of a member's log, as text: of the entries that tell of a
// failure the last ones, each with its message, or else the last lines.
func tail(name string, count int) ([]string, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var lines, failures []string
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := scanner.Text()
		lines = append(lines, line)
		var entry struct{ Level, Msg, Error string }
		json.Unmarshal([]byte(line), &entry) // A line that is no entry has no level.
		switch {
		case entry.Error != "":
			failures = append(failures, entry.Msg+": "+entry.Error)
		case entry.Level == "panic" || entry.Level == "fatal":
			failures = append(failures, entry.Msg)
		case strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: "):
			failures = append(failures, line) // Go's own words.
		}
	}
	if len(failures) > 0 {
		lines = failures
	}
	return lines[max(0, len(lines)-count):], scanner.Err()
}
