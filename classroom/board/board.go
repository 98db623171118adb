// Package board serves a page that shows an etcd at work, beside the lessons.
//
// One watch and one poll serve all browsers. The page gets what has changed as
// HTML, rendered once for all of them.
package board

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"example.com/etcd-by-example/classroom/cluster"
)

// Config says what the board shows.
type Config struct {
	// Etcd is how to reach the etcd to show; the board makes its own clients.
	Etcd *clientv3.Config

	// Cluster has the members that the classroom started. When it started none, it
	// is nil, and the page has no handles for them.
	Cluster *cluster.Cluster

	// Root is the folder of the repository, with the lessons.
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

// Board serves the page until it is closed.
type Board struct {
	config  Config
	client  *clientv3.Client // knows the members that answer
	status  *clientv3.Client // asks single members: SetEndpoints races with that
	state   *state
	stream  *stream
	lessons *lessons
	members *memberList

	address, public string
	servers         []*http.Server

	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	restart  chan struct{} // asks the watch to begin again
	ask      chan struct{} // asks for the leases at once
	reading  chan struct{} // holds one token for each reading of the past
	acting   sync.Mutex    // held while a member is stopped, killed and so on
	trouble  string        // what the banner says of etcd
	troubled sync.Mutex
}

// Start returns when the board listens. It need not have found etcd by then.
func Start(ctx context.Context, config Config) (_ *Board, err error) {
	etcd := *config.Etcd
	etcd.DialKeepAliveTime = cmp.Or(etcd.DialKeepAliveTime, 10*time.Second)
	etcd.DialKeepAliveTimeout = cmp.Or(etcd.DialKeepAliveTimeout, 3*time.Second)
	// Without a limit, an etcd that was away for long would not be tried again
	// for two minutes.
	connect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: time.Second}
	connect.Backoff.BaseDelay = 100 * time.Millisecond
	connect.Backoff.MaxDelay = time.Second
	etcd.DialOptions = append(etcd.DialOptions[:len(etcd.DialOptions):len(etcd.DialOptions)],
		grpc.WithConnectParams(connect))
	config.Etcd = &etcd

	b := &Board{
		config:  config,
		state:   newState(),
		restart: make(chan struct{}, 1),
		ask:     make(chan struct{}, 1),
		reading: make(chan struct{}, 4),
	}
	b.ctx, b.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if b.client, err = clientv3.New(etcd); err != nil {
		return nil, fmt.Errorf("make the board's client of etcd: %w", err)
	}
	if b.status, err = clientv3.New(etcd); err != nil {
		return nil, fmt.Errorf("make the board's client of the members: %w", err)
	}
	b.members = newMemberList(config, b.client.Endpoints())
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
	b.renderAll()
	if config.Cluster != nil {
		emptied := config.Cluster.Emptied()
		b.running.Go(func() { b.followResets(emptied) })
	}
	b.running.Go(b.watch)
	b.running.Go(b.poll)
	b.running.Go(b.render)
	for i := range b.members.list {
		b.running.Go(func() { b.pollMember(i) })
	}
	return b, nil
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
		Handler:           b.handler(host, bound.Port, public),
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
	for _, client := range []*clientv3.Client{b.client, b.status} {
		if client != nil {
			client.Close() // It says that its context is over, which was meant.
		}
	}
	return errors.Join(failures...)
}

// note takes in a line that lesson 08 has printed.
func (b *Board) note(line string) { b.state.note(line) }
