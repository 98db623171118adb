// Package cluster runs etcd members as child processes: the official server,
// linked into this program, which executes itself again under the name etcd.
// A crash, a pause and a restart of a member are therefore real ones.
//
// A program that starts members calls Main first in its own main or TestMain.
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/ports"
	"example.com/etcd-by-example/classroom/tempdir"
)

const (
	// memberVariable marks a process that was started as a member. The name etcd
	// alone is not enough: somebody may call a binary of theirs so.
	memberVariable = "CLASSROOM_MEMBER"

	// temporaryVariable is set for a member whose data nobody keeps.
	temporaryVariable = "CLASSROOM_TEMPORARY"

	// smallSegment is how many bytes such a member takes at a time for its
	// write-ahead log, always with as many in reserve. etcd's own 64 MB fill a
	// temporary folder that is in memory, when there are many members.
	smallSegment = 1 << 20
)

// Main turns the process into an etcd member when it was started as one, and
// does not return then. Otherwise it returns at once.
//
// A member ends when its standard input does: that is when the process that
// started it ends, however that happens.
func Main() {
	if filepath.Base(os.Args[0]) != "etcd" || os.Getenv(memberVariable) == "" {
		return
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	if os.Getenv(temporaryVariable) != "" {
		wal.SegmentSizeBytes = smallSegment
	}
	etcdmain.Main(os.Args)
	os.Exit(0)
}

// Config says which members to start. Its zero value is one member on free
// ports, with a data folder that Close removes.
type Config struct {
	// Members is their number; 0 means 1.
	Members int

	// Dir holds a data folder and a log file for each member, and is kept. When
	// it is empty, a temporary folder is used, which Close removes.
	Dir string

	// Port is where the first member listens for clients, on 127.0.0.1. The
	// next port is for its peers; the other members follow, two ports each. 0
	// means free ports.
	Port int

	// Program is the etcd server to run, a file's path; it ends when its standard
	// input does. When it is empty, the server of this program is run.
	Program string

	// Secure has the members listen for clients of other machines as well, and take
	// none without a certificate. When it is nil, they listen on 127.0.0.1 alone.
	Secure *Secure

	// Args are further command-line arguments for every member. They come last
	// and win over those that the package gives.
	Args []string

	// Ended, when it is set, is called when a member that was ready has ended, and
	// nobody has asked for that here. how is what the system says.
	Ended func(m *Member, how string)
}

// Secure is how clients and members know each other. All are PEM.
type Secure struct {
	CA        []byte // who signed the clients' certificates
	Cert, Key []byte // what the members show

	// Client is how this program itself reaches a member.
	Client *tls.Config
}

// keep writes down what the members read, and returns the arguments for that.
func (s *Secure) keep(dir string) ([]string, error) {
	var args []string
	for _, file := range []struct {
		flag, name string
		content    []byte
	}{
		{"--trusted-ca-file=", "clients.pem", s.CA},
		{"--cert-file=", "member.pem", s.Cert},
		{"--key-file=", "member-key.pem", s.Key},
	} {
		name := filepath.Join(dir, file.name)
		if err := os.WriteFile(name, file.content, 0o600); err != nil {
			return nil, fmt.Errorf("write down the members' certificates: %w", err)
		}
		args = append(args, file.flag+name)
	}
	return append(args, "--client-cert-auth"), nil
}

// Cluster is a set of etcd members that were started together.
type Cluster struct {
	// Members are in the order of their names: etcd1, etcd2 and so on.
	Members []*Member

	// Dir holds the members' data folders and log files.
	Dir string

	temporary *tempdir.Dir   // nil when Dir is kept
	held      io.Closer      // nil when it is not
	ports     ports.Reserved // also while members are down
	peers     *peers         // nil for one member
	client    *tls.Config    // nil without Config.Secure
	acting    chan struct{}  // has room for the one that acts on the members

	mu      sync.Mutex
	emptied chan struct{} // closed by the next Reset
}

// attempts is how often Start tries other ports when it may choose them:
// between choosing a port and listening on it, another program may take it.
const attempts = 5

// Start starts the members and returns when each of them answers reads and
// writes, or with an error when one of them has ended or ctx is over. After an
// error nothing is left of them.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	for attempt := 1; ; attempt++ {
		c, err := start(ctx, config)
		if err == nil {
			return c, nil
		}
		if config.Port != 0 || attempt == attempts || !errors.Is(err, errPort) {
			return nil, err
		}
	}
}

func start(ctx context.Context, config Config) (_ *Cluster, err error) {
	count := max(config.Members, 1)
	c := &Cluster{Dir: config.Dir, acting: make(chan struct{}, 1), emptied: make(chan struct{})}
	if c.Dir == "" {
		if c.temporary, err = tempdir.Make("", "classroom-"); err != nil {
			return nil, err
		}
		c.Dir = c.temporary.Path
	} else if err := fits(c.Dir, count); err != nil {
		return nil, err
	} else if c.held, err = hold(config); err != nil {
		return nil, err
	}
	_, kept := os.Stat(filepath.Join(c.Dir, memberName(0), "member"))
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(err, c.Close())
		if kept != nil {
			// What only some of them have made would be refused the next time.
			for _, m := range c.Members {
				err = errors.Join(err, tempdir.RemoveAll(m.Data))
			}
		}
	}()

	if c.ports, err = ports.Reserve(config.Port, 2*count); err != nil {
		return nil, fmt.Errorf("%w: %w", errPort, err)
	}
	numbers := c.ports.Numbers
	if count > 1 {
		c.peers = newPeers()
	}
	prefix, listen := "", "http://127.0.0.1:"
	var secured []string
	if config.Secure != nil {
		prefix, listen = "https://", "https://0.0.0.0:"
		c.client = config.Secure.Client
		if secured, err = config.Secure.keep(c.Dir); err != nil {
			return nil, err
		}
	}
	var initial []string
	for i := range count {
		m := &Member{
			Name:     memberName(i),
			Endpoint: prefix + "127.0.0.1:" + strconv.Itoa(numbers[2*i]),
			Data:     filepath.Join(c.Dir, memberName(i)),
			program:  config.Program,
			client:   c.client,
			ended:    config.Ended,
			peers:    c.peers,
			forget:   c.temporary != nil,
		}
		listening := "127.0.0.1:" + strconv.Itoa(numbers[2*i+1])
		m.PeerURL = "http://" + listening
		if c.peers != nil {
			m.host = peerHost(i)
			m.PeerURL = "http://" + m.host + ":2380"
			if m.proxy, err = c.peers.add(m.host, listening); err != nil {
				return nil, err
			}
		}
		c.Members = append(c.Members, m)
		initial = append(initial, m.Name+"="+m.PeerURL)
	}
	for i, m := range c.Members {
		m.args = []string{
			"etcd",
			"--name=" + m.Name,
			"--data-dir=" + m.Data,
			"--listen-client-urls=" + listen + strconv.Itoa(numbers[2*i]),
			"--advertise-client-urls=" + m.url(),
			"--listen-peer-urls=http://127.0.0.1:" + strconv.Itoa(numbers[2*i+1]),
			"--initial-advertise-peer-urls=" + m.PeerURL,
			"--initial-cluster=" + strings.Join(initial, ","),
			"--initial-cluster-token=etcd-by-example",
		}
		if count == 1 {
			// A lone member elects itself. With the default timing it waits up
			// to a second before it does, for votes that nobody casts.
			m.args = append(m.args,
				"--heartbeat-interval=10", "--election-timeout=100")
		}
		m.args = slices.Concat(m.args, secured, config.Args)
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// run starts all members, none of which runs, and returns when they are ready.
func (c *Cluster) run(ctx context.Context) error {
	// None is ready before a majority runs, so all are started first.
	for _, m := range c.Members {
		if err := m.launch(); err != nil {
			return err
		}
	}
	return ready(ctx, c.Members)
}

func ready(ctx context.Context, members []*Member) error {
	for _, m := range members {
		if err := m.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Client returns how to reach the members.
func (c *Cluster) Client() clientv3.Config {
	return clientv3.Config{Endpoints: c.Endpoints(), TLS: c.client, Logger: zap.NewNop()}
}

// Endpoints returns where the members listen for clients: see Member.Endpoint.
func (c *Cluster) Endpoints() []string {
	var endpoints []string
	for _, m := range c.Members {
		endpoints = append(endpoints, m.Endpoint)
	}
	return endpoints
}

// NoRoom returns an error when a member could not write, because there was no room.
func (c *Cluster) NoRoom() error {
	for _, m := range c.Members {
		if err := m.NoRoom(); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// Exclusively runs do while nobody else acts on the members. It waits for its turn
// until ctx is over. Whatever users do to members goes through it, from a terminal
// or from the board: a member that was restarted in the middle of a Reset would
// lose its data while it runs.
func (c *Cluster) Exclusively(ctx context.Context, do func() error) error {
	select {
	case c.acting <- struct{}{}:
	case <-ctx.Done():
		return errors.New("members are being stopped or started: wait for that to end")
	}
	defer func() { <-c.acting }()
	if err := ctx.Err(); err != nil {
		return err // Close may have been the one that acted.
	}
	return do()
}

// Reset empties the store. It ends all members, whether they run, are paused or
// have ended, heals those that are cut off, removes their data, also when it is
// kept, and starts them again on their ports, with their arguments. It returns when
// each of them answers reads and writes: at revision 1, with no leases and no users.
//
// Nothing else that goes through Exclusively happens meanwhile. After an error some
// members may not run; another Reset can mend that.
func (c *Cluster) Reset(ctx context.Context) error {
	return c.Exclusively(ctx, func() error {
		// Their data goes, so there is nothing that they could bring to an end.
		for _, m := range c.Members {
			if err := m.Kill(); err != nil {
				return err
			}
		}
		// Only now: a member that had its data would hand it to the others.
		for _, m := range c.Members {
			m.join()
			if err := tempdir.RemoveAll(m.Data); err != nil {
				return fmt.Errorf("remove the data of %s: %w", m.Name, err)
			}
		}
		c.mu.Lock()
		close(c.emptied)
		c.emptied = make(chan struct{})
		c.mu.Unlock()
		return c.run(ctx)
	})
}

// Emptied returns a channel that the next Reset closes, when the members of the old
// store have ended and those of the new one have not started.
func (c *Cluster) Emptied() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.emptied
}

// Restart restarts members one after the other: each is ready before the next one
// is stopped. When one is cut off, it restarts none. It is called within Exclusively.
func (c *Cluster) Restart(ctx context.Context, members []*Member) error {
	for _, m := range members {
		if err := m.mayStart(); err != nil {
			return err
		}
	}
	var started []*Member
	for i, m := range members {
		if err := m.Stop(); err != nil {
			return err
		}
		if err := m.launch(); err != nil {
			return err
		}
		started = append(started, m)
		// When too few members run, none can be ready before another one starts.
		if i < len(members)-1 && !c.majority() {
			continue
		}
		if err := ready(ctx, started); err != nil {
			return err
		}
		started = nil
	}
	return nil
}

// majority reports whether enough members run, and reach each other, to elect a
// leader.
func (c *Cluster) majority() bool {
	running := 0
	for _, m := range c.Members {
		if m.PID() != 0 && !m.Paused() && !m.CutOff() {
			running++
		}
	}
	return running > len(c.Members)/2
}

// Close ends all members and waits for their processes. Members whose data is
// kept are asked to end first; a temporary folder is removed. What acts on the
// members ends before.
func (c *Cluster) Close() error {
	c.acting <- struct{}{}
	defer func() { <-c.acting }()
	failures := make([]error, len(c.Members))
	var members sync.WaitGroup
	for i, m := range c.Members {
		members.Go(func() {
			if c.temporary != nil {
				failures[i] = m.Kill()
			} else {
				failures[i] = m.Stop()
			}
		})
	}
	members.Wait()
	if c.peers != nil {
		failures = append(failures, c.peers.close())
	}
	failures = append(failures, c.ports.Release())
	if c.temporary != nil {
		failures = append(failures, c.temporary.Remove())
	}
	if c.held != nil {
		failures = append(failures, c.held.Close())
	}
	return errors.Join(failures...)
}

func memberName(i int) string { return "etcd" + strconv.Itoa(i+1) }

// fits returns an error when dir holds the data of another number of members:
// they would wait for ever for a majority, or find no data of theirs.
func fits(dir string, count int) error {
	for i := range count {
		_, err := os.Stat(filepath.Join(dir, memberName(i), "member"))
		_, first := os.Stat(filepath.Join(dir, memberName(0), "member"))
		if (err == nil) != (first == nil) {
			return fmt.Errorf("%s holds the data of fewer members than %d",
				dir, count)
		}
	}
	_, err := os.Stat(filepath.Join(dir, memberName(count), "member"))
	if err == nil {
		return fmt.Errorf("%s holds the data of more members than %d", dir, count)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	return nil
}

// hold has nobody else start members on the data that is kept: they would wait for those
// that run, without a word.
func hold(config Config) (io.Closer, error) {
	host, _ := os.Hostname() // Others may have the folder over a network.
	held, err := tempdir.Hold(config.Dir, fmt.Sprintf("the etcd at port %d of %s, process %d", config.Port, host, os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("%w: stop that, or give another folder", err)
	}
	return held, nil
}

// errPort is wrapped by the errors of members that cannot have their port.
var errPort = errors.New("a port cannot be had")
