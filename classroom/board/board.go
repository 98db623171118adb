// Package board serves a page that shows an etcd at work, beside the lessons.
//
// It shows what a history knows, present and past alike. One recorder serves all
// browsers. The page gets what has changed as HTML, rendered once for all of them.
package board

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/workbook"
)

// Config says what the board shows.
type Config struct {
	// Etcd is how to reach the etcd to show; the board makes its own clients.
	Etcd *clientv3.Config

	// Saved, when it is not nil, is shown instead: what some etcd did once. There is
	// no etcd then, nothing changes, and no lesson runs.
	Saved *history.Record

	// Cluster has the members that the classroom started. When it started none, it
	// is nil, and the page has no handles for them.
	Cluster *cluster.Cluster

	// Class acts on those who share the etcd. It is nil when that is not a class's.
	Class Class

	// Root is the folder of the repository, with the lessons and the exercises.
	Root string

	// Env is the environment of the lessons that are run.
	Env []string

	// Address is where the board listens, on loopback, as host:port. Port 0 is
	// a free one.
	Address string

	// Public is a second address, for those who may look and change nothing.
	// When it is empty, there is none.
	Public string
}

// source is where the board has its histories from.
type source interface {
	Record() *history.Record
	Next() <-chan struct{}
	Trouble() error
	Renewals() int
	Close()
}

// saved is a source that was recorded before.
type saved struct{ record *history.Record }

func (s saved) Record() *history.Record { return s.record }
func (s saved) Next() <-chan struct{}   { return nil }
func (s saved) Trouble() error          { return nil }
func (s saved) Renewals() int           { return -1 }
func (s saved) Close()                  {}

// Board serves the page until it is closed.
type Board struct {
	config  Config
	source  source
	client  *clientv3.Client // of the etcd; nil when there is none
	stream  *stream
	lessons *lessons
	book    *workbook.Book
	rows    rows
	class   bool // it is a class's etcd

	address, public string
	servers         []*http.Server

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	reading chan struct{} // holds one token for each reading of the past
	acting  sync.Mutex    // held while a member is stopped, killed and so on

	mu      sync.Mutex
	refused []refusal // of which lessons have told, the latest last
	roster  *class.Roster
}

const (
	// recalled is how many revisions from before its start the board shows, as far as
	// etcd still has them.
	recalled = 10_000

	keptValue   = 4096 // bytes of each value; etcd has the rest
	keptRefused = 100
)

// Start returns when the board listens. It need not have found etcd by then.
func Start(ctx context.Context, config Config) (_ *Board, err error) {
	b := &Board{config: config, book: workbook.Open(config.Root), reading: make(chan struct{}, 4)}
	b.ctx, b.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if config.Saved != nil {
		b.source = saved{config.Saved}
	} else {
		recorder, err := history.Start(b.ctx, b.recording())
		if err != nil {
			return nil, err
		}
		b.source, b.client = recorder, recorder.Client()
	}
	b.class = b.isClass()
	b.stream = newStream()
	if b.lessons, err = newLessons(config.Root, config.Env, lessonSink{b.stream}); err != nil {
		return nil, fmt.Errorf("read the lessons: %w", err)
	}
	b.lessons.note = b.note
	b.stream.lessons = b.lessons
	if b.address, err = b.listen(config.Address, false); err != nil {
		return nil, err
	}
	if config.Public != "" {
		if b.public, err = b.listen(config.Public, true); err != nil {
			return nil, err
		}
	}
	record := b.source.Record()
	for panel := range b.every() {
		b.renderPanel(panel, b.scene(record, record.Present()))
	}
	b.running.Go(b.render)
	return b, nil
}

// recording says what to record.
func (b *Board) recording() history.Source {
	s := history.Source{Etcd: *b.config.Etcd, Limits: history.Limits{Value: keptValue}, Back: recalled}
	if b.config.Class != nil {
		s.Show = class.Shown
	}
	if b.config.Cluster == nil {
		return s
	}
	s.Emptied = b.config.Cluster.Emptied
	s.Own = func(endpoint string) (string, history.Role) {
		for _, m := range b.config.Cluster.Members {
			if m.Endpoint == endpoint {
				return m.Name, history.Role(m.State())
			}
		}
		return "", ""
	}
	return s
}

// listen serves the page at address, and returns where that is.
func (b *Board) listen(address string, public bool) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("listen for browsers: %w", err)
	}
	if ip := net.ParseIP(host); !public && host != "localhost" &&
		(ip == nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("listen for browsers at %s: who may run lessons "+
			"must come from this computer, so it has to be 127.0.0.1", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen for browsers: %w", err)
	}
	bound := listener.Addr().(*net.TCPAddr)
	server := &http.Server{
		Handler:           b.handler(host, public || b.config.Saved != nil),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return b.ctx },
	}
	b.servers = append(b.servers, server)
	b.running.Go(func() { server.Serve(listener) })
	return net.JoinHostPort(cmp.Or(host, bound.IP.String()), strconv.Itoa(bound.Port)), nil
}

// Address returns where the page is, as host:port.
func (b *Board) Address() string { return b.address }

// Public returns where the page is for those who may only look, or "".
func (b *Board) Public() string { return b.public }

// Close ends all that the board has started, and returns when it has.
func (b *Board) Close() error {
	b.cancel()
	if b.lessons != nil {
		b.lessons.close()
	}
	var failures []error
	for _, server := range b.servers {
		failures = append(failures, server.Close())
	}
	b.running.Wait()
	if b.source != nil {
		b.source.Close()
	}
	return errors.Join(failures...)
}

// note takes in a line that lesson 08 has printed.
func (b *Board) note(line string) {
	record := b.source.Record()
	s := b.scene(record, record.Present())
	r, told := s.refused(line)
	if !told {
		return
	}
	b.mu.Lock()
	b.refused = append(b.refused, r)
	b.refused = b.refused[max(0, len(b.refused)-keptRefused):]
	b.mu.Unlock()
	b.renderPanel(panelLock, s)
}

// told returns the refused writes of which lessons have told.
func (b *Board) told() []refusal {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.refused)
}

// act does to a member, or to the one that leads now, what a button asks for.
func (b *Board) act(name, action string) error {
	var members []*cluster.Member
	if b.config.Cluster != nil {
		members = b.config.Cluster.Members
	}
	if name == string(history.Leader) {
		name = leader(b.source.Record().Present())
	}
	if name == "" {
		return errors.New("no member leads now")
	}
	at := slices.IndexFunc(members, func(m *cluster.Member) bool { return m.Name == name })
	if at < 0 {
		return fmt.Errorf("%w: no member %q", errUnknown, name)
	}
	do := cluster.Actions[action]
	if do == nil {
		return fmt.Errorf("%w: no action %q", errUnknown, action)
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	return b.config.Cluster.Exclusively(ctx, func() error { return do(ctx, members[at]) })
}
