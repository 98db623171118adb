package harness

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// Relay is the network between a client and one member: it accepts connections
// and hands on the bytes, and can hold them back or cut the connections.
type Relay struct {
	Address string // where clients connect to, as host:port

	dial func() (net.Conn, error)

	mu    sync.Mutex
	free  *sync.Cond // when nothing is held any more
	held  bool
	conns map[net.Conn]bool
	delay time.Duration
	ended bool

	once sync.Once
	Used chan struct{} // closed when somebody has connected
}

// NewRelay returns a relay to the address, which ends with the test.
func NewRelay(t testing.TB, address string) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	etcdtest.NoError(t, err)
	return serveRelay(t, listener, Machine, address)
}

// serveRelay returns a relay from what listener accepts to the address in a network.
func serveRelay(t testing.TB, listener net.Listener, in Network, address string) *Relay {
	r := &Relay{
		Address: listener.Addr().String(),
		dial:    func() (net.Conn, error) { return in.Dial(context.Background(), "tcp", address) },
		conns:   map[net.Conn]bool{},
		Used:    make(chan struct{}),
	}
	r.free = sync.NewCond(&r.mu)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			front, err := listener.Accept()
			if err != nil {
				return
			}
			r.once.Do(func() { close(r.Used) })
			serving.Go(func() { r.serve(front) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		r.mu.Lock()
		r.ended = true
		r.mu.Unlock()
		r.Resume()
		r.Cut()
		serving.Wait()
	})
	return r
}

// Hold keeps back all bytes from now on, in both directions, until resume.
// Connections stay open, and new ones are accepted.
func (r *Relay) Hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = true
}

// Resume hands on what was held back.
func (r *Relay) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = false
	r.free.Broadcast()
}

// Slow lets every piece of data wait before it is handed on.
func (r *Relay) Slow(delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = delay
}

// Cut closes all connections. New ones work.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		conn.Close()
	}
}

func (r *Relay) serve(front net.Conn) {
	defer front.Close()
	back, err := r.dial()
	if err != nil {
		return
	}
	defer back.Close()
	if !r.add(front, back) {
		return
	}
	defer r.forget(front, back)

	var ways sync.WaitGroup
	ways.Go(func() { r.pass(back, front) })
	ways.Go(func() { r.pass(front, back) })
	ways.Wait()
}

// pass hands on what from sends, until one of the two is closed.
func (r *Relay) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	piece := make([]byte, 64<<10)
	for {
		n, err := from.Read(piece)
		r.mu.Lock()
		delay := r.delay
		r.mu.Unlock()
		time.Sleep(delay)
		r.mu.Lock()
		for r.held {
			r.free.Wait()
		}
		r.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *Relay) add(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		r.conns[conn] = true
	}
	return !r.ended
}

func (r *Relay) forget(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		delete(r.conns, conn)
	}
}
