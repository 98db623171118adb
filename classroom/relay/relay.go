// Package relay stands between programs and one etcd member. It hands on every gRPC
// call as it is, and asks a Hook about each message on its way: to let it pass, to lose
// it, to hold it, or to do something first. A strike therefore hits a call and not a
// time. It can also cut, hold and refuse the programs' connections.
//
// Programs share one connection of the relay's to the member, because nothing in etcd
// belongs to a connection: tokens are sent with calls, leases and watches have streams.
// Whoever must tell programs apart gives each a relay of its own.
package relay

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"example.com/etcd-by-example/classroom/ports"
)

// Relay is a relay before one member. Its methods may be called from several
// goroutines, and from a Hook, except for Close.
//
// While the member does not run, the relay refuses connections, as the member would:
// otherwise a client would take it for a member that lives. A member that is paused
// still has its connection, so the relay accepts; Hold makes it as silent as that.
type Relay struct {
	// Address is where programs connect to, as host:port. It stays the same.
	Address string

	ctx     context.Context // is over when Close is called
	cancel  context.CancelFunc
	member  *grpc.ClientConn
	server  *grpc.Server
	hook    atomic.Pointer[Hook]
	port    ports.Reserved // also while connections are refused
	running sync.WaitGroup

	mu         sync.Mutex
	listener   net.Listener  // nil while connections are refused
	opened     chan struct{} // closed while there is a listener
	up         bool          // does the member answer?
	refusing   bool
	holding    bool
	closed     bool
	conns      map[*Conn]bool
	advertised map[string]string
	ever       int
	calls      map[string]int
}

// Start returns a relay to the member at an address, host:port, which need not run
// yet: see Ready. The relay listens at the port of 127.0.0.1, or at a free one when
// port is 0. The error says that the port is taken.
func Start(member string, port int) (*Relay, error) {
	r := &Relay{
		opened: make(chan struct{}),
		conns:  map[*Conn]bool{},
		calls:  map[string]int{},
	}
	var err error
	if r.port, err = ports.Reserve(port, 1); err != nil {
		return nil, fmt.Errorf("listen for programs: %w", err)
	}
	r.Address = "127.0.0.1:" + strconv.Itoa(r.port.Numbers[0])
	r.ctx, r.cancel = context.WithCancel(context.Background())
	// A member that comes back is wanted at once. One that takes the connection and
	// stays silent is tried again each second.
	again := backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, MaxDelay: 50 * time.Millisecond}
	r.member, err = grpc.NewClient("passthrough:///"+member,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: time.Second}),
		grpc.WithIdleTimeout(0), // The connection tells whether the member lives.
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	)
	if err != nil {
		r.cancel()
		r.port.Release()
		return nil, fmt.Errorf("make a client of the member: %w", err)
	}
	r.server = grpc.NewServer(
		grpc.UnknownServiceHandler(r.handle),
		grpc.ForceServerCodecV2(raw{}),
		grpc.MaxRecvMsgSize(math.MaxInt32), // What is too large, etcd says.
		grpc.WaitForHandlers(true),
		// As often as etcd lets them; by default a client may ask every five minutes.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
	)
	r.running.Go(r.follow)
	return r, nil
}

// Close cuts all connections, takes back what is held, and returns when nothing of the
// relay runs any more. A hook that waits for something must wait with Await.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	r.door()
	r.mu.Unlock()
	r.cancel()
	r.Cut()
	r.server.Stop()
	r.member.Close()
	r.running.Wait()
	r.port.Release() // It has no other error than that it is released.
}

// follow opens and closes the door as the member comes and goes.
func (r *Relay) follow() {
	for r.ctx.Err() == nil {
		state := r.member.GetState()
		if state == connectivity.Idle {
			r.member.Connect()
		}
		r.mu.Lock()
		r.up = state == connectivity.Ready
		err := r.door()
		r.mu.Unlock()
		if state != connectivity.Ready {
			r.Cut()
		}
		changed, cancel := r.ctx, context.CancelFunc(func() {})
		if err != nil { // Somebody else has the port. They may leave.
			changed, cancel = context.WithTimeout(r.ctx, 50*time.Millisecond)
		}
		r.member.WaitForStateChange(changed, state)
		cancel()
	}
}

// door listens, or stops listening, as is wanted. r.mu is held. The error says that
// the port is taken.
func (r *Relay) door() error {
	open := r.up && !r.refusing && !r.closed
	switch {
	case open && r.listener == nil:
		listener, err := net.Listen("tcp", r.Address)
		if err != nil {
			return fmt.Errorf("listen for programs again: %w", err)
		}
		r.listener = listener
		close(r.opened)
		r.running.Go(func() { r.server.Serve(entrance{listener, r}) })
	case !open && r.listener != nil:
		r.listener.Close() // It has no other error than that it is closed.
		r.listener = nil
		r.opened = make(chan struct{})
	}
	return nil
}

// Ready returns when connections are accepted: the member answers, and nobody has
// called Refuse. It returns an error when ctx is over before.
func (r *Relay) Ready(ctx context.Context) error {
	r.mu.Lock()
	opened := r.opened
	r.mu.Unlock()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the relay at %s refuses connections: %w", r.Address, ctx.Err())
	}
}

// Hook has hook asked about each message from now on, instead of the hook before;
// nil lets everything pass. What the hook before holds, it still holds.
func (r *Relay) Hook(hook Hook) {
	if hook == nil {
		r.hook.Store(nil)
		return
	}
	r.hook.Store(&hook)
}

// Advertise has the programs hear of other addresses when they ask which members there
// are: of relays instead of members, each as host:port. Otherwise a client that calls
// Sync would go past the relays from then on.
func (r *Relay) Advertise(instead map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advertised = instead
}

// Refuse has new connections refused until Resume. Those that are open stay.
func (r *Relay) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusing = true
	r.door()
}

// Hold has the bytes on all connections stand still, both ways, until Resume. New
// connections are accepted and stand still as well. What the relay has read before goes
// on to etcd; its answer does not come back.
func (r *Relay) Hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holding = true
	for conn := range r.conns {
		conn.Hold()
	}
}

// Resume undoes Hold, that of single connections too, and Refuse. The error says that
// the port was taken meanwhile.
func (r *Relay) Resume() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holding, r.refusing = false, false
	for conn := range r.conns {
		conn.Resume()
	}
	return r.door()
}

// Cut breaks all connections. New ones are accepted. Calls that the relay has read
// still reach etcd.
func (r *Relay) Cut() {
	r.mu.Lock()
	conns := maps.Clone(r.conns)
	r.mu.Unlock()
	for conn := range conns {
		conn.Cut()
	}
}

// Connections returns how many connections programs have now, and have ever made.
func (r *Relay) Connections() (now, ever int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns), r.ever
}

// Calls returns how many calls programs have made, by gRPC's full name of the method:
// pb.KV_Put_FullMethodName. A call that was lost counts, and a stream is one call.
func (r *Relay) Calls() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.calls)
}
