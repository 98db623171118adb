package relay

import (
	"net"
	"sync"
)

// Conn is a connection of a program to the relay.
type Conn struct {
	// Number counts the connections of the relay, from 1 on.
	Number int

	net   net.Conn
	relay *Relay
	gone  chan struct{} // closed when the connection is
	end   sync.Once

	mu   sync.Mutex
	held chan struct{} // closed by Resume; nil while bytes pass
}

// Cut breaks the connection. Calls that the relay has read still reach etcd.
func (c *Conn) Cut() {
	c.end.Do(func() {
		c.relay.mu.Lock()
		delete(c.relay.conns, c)
		c.relay.mu.Unlock()
		close(c.gone)
		c.net.Close() // Whatever the error, it cannot be used any more.
	})
}

// Hold has the connection's bytes stand still, both ways, until Resume.
func (c *Conn) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = make(chan struct{})
	}
}

// Resume undoes Hold, also that of the relay, for this connection.
func (c *Conn) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		close(c.held)
		c.held = nil
	}
}

// stand returns when bytes may pass, or the connection has ended.
func (c *Conn) stand() {
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held == nil {
		return
	}
	select {
	case <-held:
	case <-c.gone:
	}
}

// entrance is a listener for gRPC's server, whose connections can be held.
type entrance struct {
	net.Listener
	relay *Relay
}

func (e entrance) Accept() (net.Conn, error) {
	accepted, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r := e.relay
	r.mu.Lock()
	r.ever++
	conn := &Conn{Number: r.ever, net: accepted, relay: r, gone: make(chan struct{})}
	if r.holding {
		conn.Hold()
	}
	r.conns[conn] = true
	late := r.listener != e.Listener
	r.mu.Unlock()
	if late {
		conn.Cut() // The door was closed while somebody stood in it.
	}
	return gated{accepted, conn}, nil
}

// gated is what gRPC's server sees of a connection.
type gated struct {
	net.Conn
	conn *Conn
}

func (g gated) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	g.conn.stand()
	return n, err
}

func (g gated) Write(b []byte) (int, error) {
	g.conn.stand()
	return g.Conn.Write(b)
}

func (g gated) Close() error {
	g.conn.Cut()
	return nil
}

// RemoteAddr is all that gRPC tells a call of its connection.
func (g gated) RemoteAddr() net.Addr { return origin{g.Conn.RemoteAddr(), g.conn} }

type origin struct {
	net.Addr
	conn *Conn
}
