package class

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"
)

const (
	// hereTTL is how long a learner is thought to be there after their desk was last
	// heard of.
	hereTTL = 10 // seconds

	again      = time.Second // between tries
	callLimit  = 5 * time.Second
	leaveLimit = 2 * time.Second
)

// Desk is somebody's place in a class: at two ports of their machine it answers like an
// etcd, for their own keys and for those of the whole class. It hands on every call as
// it is, but for the names of the keys, the addresses of members, which are its own,
// and the list of leases.
type Desk struct {
	name   string
	key    *ecdsa.PrivateKey // nil for the teacher, who need not be let in
	tell   func(string)
	client *clientv3.Client
	leases leases

	ctx     context.Context
	cancel  context.CancelCauseFunc
	running sync.WaitGroup
	servers []*grpc.Server

	mu     sync.Mutex
	code   Code
	passed string
	noted  chan struct{} // has room for the news that passed is another
}

// DeskConfig says whose desk it is, and where.
type DeskConfig struct {
	Code Code
	Name string

	// KeyFile has the key that the name belongs to. It is made the first time, and never
	// leaves this machine.
	KeyFile string

	// Port is where the learner's keys are, on 127.0.0.1; two below it are those of the
	// class.
	Port int

	// Tell is called with what the learner should know, in a sentence.
	Tell func(string)
}

// OpenDesk joins the class and returns when the desk answers. The error says what is
// wrong with the port, or wraps ErrRefused, or says that nobody answers.
func OpenDesk(ctx context.Context, config DeskConfig) (*Desk, error) {
	if err := checkName(config.Name); err != nil {
		return nil, err
	}
	listeners, err := listen(config.Port)
	if err != nil {
		return nil, err
	}
	defer listeners.close() // Those that nobody serves.
	key, err := openKey(config.KeyFile)
	if err != nil {
		return nil, err
	}
	in, err := config.Code.enter(ctx, config.Name, key, false)
	if err != nil {
		return nil, err
	}
	d := &Desk{name: config.Name, key: key, tell: config.Tell, code: config.Code}
	return d, d.open(ctx, config.Code.etcd(in), &listeners)
}

// Desk returns the teacher's own desk. What only root may do, it lets the teacher do.
func (c *Class) Desk(ctx context.Context, port int) (*Desk, error) {
	listeners, err := listen(port)
	if err != nil {
		return nil, err
	}
	defer listeners.close()
	d := &Desk{name: Teacher, tell: func(string) {}, code: c.Code("127.0.0.1")}
	return d, d.open(ctx, c.etcd, &listeners)
}

// doors are where a desk listens: for its own keys, and for those of the class.
type doors [2]net.Listener

func listen(port int) (all doors, err error) {
	for i, port := range []int{port, port - 2} {
		if all[i], err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err != nil {
			all.close()
			return all, fmt.Errorf("listen for the lessons: %w", err)
		}
	}
	return all, nil
}

func (all *doors) close() {
	for i, door := range all {
		if door != nil {
			door.Close() // It has no other error than that it is closed.
			all[i] = nil
		}
	}
}

// open returns when the desk answers. After an error nothing is left of it.
func (d *Desk) open(ctx context.Context, etcd clientv3.Config, listeners *doors) (err error) {
	d.ctx, d.cancel = context.WithCancelCause(context.Background())
	d.noted = make(chan struct{}, 1)
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.client, err = clientv3.New(patient(etcd)); err != nil {
		return fmt.Errorf("make a client of the class's etcd: %w", err)
	}
	arrived := make(chan struct{})
	d.running.Go(func() { d.stay(arrived) })
	d.running.Go(d.watchConnection)
	select {
	case <-arrived:
	case <-ctx.Done():
		return fmt.Errorf("the class's etcd does not answer at %s (%w): "+
			"a firewall may close these ports", d.etcdAddresses(), ctx.Err())
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	}
	for i, name := range []string{d.name, Common} {
		d.serve(listeners[i], prefix(Prefix(name)))
		listeners[i] = nil
	}
	return nil
}

// etcd is how to reach the class's etcd for who was let in.
func (c Code) etcd(in pass) clientv3.Config {
	return clientv3.Config{Endpoints: in.endpoints, TLS: c.print.known(in.cert), Logger: zap.NewNop()}
}

// patient returns the configuration of a client that lasts as long as a class: it finds
// a member that hangs, and tries one that was away each second. A class is in one network,
// into which a proxy of the surroundings does not lead.
func patient(etcd clientv3.Config) clientv3.Config {
	connect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 2 * time.Second}
	connect.Backoff.BaseDelay, connect.Backoff.MaxDelay = 100*time.Millisecond, again
	etcd.DialTimeout = 2 * time.Second
	etcd.DialKeepAliveTime, etcd.DialKeepAliveTimeout = 10*time.Second, 3*time.Second
	etcd.MaxCallSendMsgSize = math.MaxInt32 // What is too large, etcd says.
	etcd.DialOptions = []grpc.DialOption{grpc.WithConnectParams(connect), grpc.WithIdleTimeout(0), grpc.WithNoProxy()}
	return etcd
}

// serve answers like an etcd in which the keys with a prefix are all that there are.
func (d *Desk) serve(listener net.Listener, prefix prefix) {
	server := grpc.NewServer(
		grpc.UnknownServiceHandler(func(_ any, front grpc.ServerStream) error {
			return d.handle(front, prefix, listener.Addr().String())
		}),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
	)
	d.servers = append(d.servers, server)
	d.running.Go(func() { server.Serve(listener) })
}

// Done returns a channel that is closed when the learner is no more in the class. Err
// says why then.
func (d *Desk) Done() <-chan struct{} { return d.ctx.Done() }

// Err returns why the learner is no more in the class, or nil.
func (d *Desk) Err() error { return context.Cause(d.ctx) }

// Close leaves the class. What was written stays.
func (d *Desk) Close() {
	d.cancel(nil)
	for _, server := range d.servers {
		server.Stop()
	}
	d.running.Wait()
	if d.client != nil {
		d.client.Close() // It says that its context is over, which was meant.
	}
}

// Move has the desk look for its class at another address, a host with a port or
// without. It joins there, as the same learner; until then it goes on as before.
func (d *Desk) Move(ctx context.Context, address string) error {
	code := d.where()
	var err error
	if code.Address, err = withPort(address); err != nil {
		return err
	}
	in, err := code.enter(ctx, d.name, d.key, true)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.code = code
	d.mu.Unlock()
	d.client.SetEndpoints(in.endpoints...)
	return nil
}

// Reset deletes all keys of the desk's owner, and returns the revision of the store.
func (d *Desk) Reset(ctx context.Context) (revision int64, err error) {
	got, err := deleteKeys(ctx, d.client, d.name)
	if err != nil {
		return 0, err
	}
	return got.Header.Revision, nil
}

// where returns the code with the address at which the class is now.
func (d *Desk) where() Code {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.code
}

// host returns where the class is, without a port.
func (d *Desk) host() string {
	host, _, _ := net.SplitHostPort(d.where().Address)
	return host
}

// stay keeps alive what says that the learner is there, until the desk is closed or the
// class does not let them in any more.
func (d *Desk) stay(arrived chan<- struct{}) {
	warned := false
	for d.ctx.Err() == nil {
		gone, err := d.arrive()
		switch {
		case d.key != nil && errors.Is(err, rpctypes.ErrPermissionDenied):
			// Etcd knows this user no more. The class says why, or lets them in again,
			// if its etcd has lost its users.
			if err := d.Move(d.ctx, d.where().Address); errors.Is(err, ErrRefused) {
				d.cancel(err)
			}
		case err == nil:
			if arrived != nil {
				close(arrived)
				arrived = nil
			}
			<-gone
			continue
		case d.key != nil && !warned && d.strange():
			warned = true
			d.tell(fmt.Sprintf("Another class answers at %s now. If it is the teacher's new one, "+
				"leave with Ctrl-C, and join with its code.", d.where().Address))
		}
		select {
		case <-d.ctx.Done():
		case <-time.After(again):
		}
	}
}

// strange reports whether another class answers where the desk's was.
func (d *Desk) strange() bool {
	ctx, cancel := context.WithTimeout(d.ctx, callLimit)
	defer cancel()
	code := d.where()
	connection, err := (&tls.Dialer{Config: code.print.known(nil)}).DialContext(ctx, "tcp", code.Address)
	if err == nil {
		connection.Close()
	}
	return errors.Is(err, errStranger)
}

// etcdAddresses returns where the members of the class's etcd are, for people.
func (d *Desk) etcdAddresses() string {
	return strings.ReplaceAll(strings.Join(d.client.Endpoints(), ", "), "https://", "")
}

// arrive writes down that the learner is there, under a lease. The channel is closed
// when that has ended.
func (d *Desk) arrive() (gone <-chan struct{}, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, callLimit)
	defer cancel()
	lease, err := d.client.Grant(ctx, hereTTL)
	if err != nil {
		return nil, err
	}
	leave := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), leaveLimit)
		defer cancel()
		d.client.Revoke(ctx, lease.ID) // Otherwise it expires.
	}
	err = d.note(ctx, lease.ID)
	var here <-chan *clientv3.LeaseKeepAliveResponse
	if err == nil {
		here, err = d.client.KeepAlive(d.ctx, lease.ID)
	}
	if err != nil {
		leave()
		return nil, err
	}
	ended := make(chan struct{})
	d.running.Go(func() {
		defer close(ended)
		defer leave()
		for {
			select {
			case _, alive := <-here:
				if !alive {
					return
				}
			case <-d.noted:
				ctx, cancel := context.WithTimeout(d.ctx, callLimit)
				d.note(ctx, lease.ID) // What fails is written down by the next arrival.
				cancel()
			}
		}
	})
	return ended, nil
}

// note writes down that the learner is there, and which exercises they passed.
func (d *Desk) note(ctx context.Context, lease clientv3.LeaseID) error {
	d.mu.Lock()
	passed := d.passed
	d.mu.Unlock()
	_, err := d.client.Put(ctx, herePrefix+d.name, passed, clientv3.WithLease(lease))
	return err
}

// Passed has the class know which exercises the learner passed.
func (d *Desk) Passed(exercises []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	passed := strings.Join(exercises, " ")
	if passed == d.passed {
		return
	}
	d.passed = passed
	select {
	case d.noted <- struct{}{}:
	default: // It is to be written down already.
	}
}

// watchConnection tells the learner when the class's etcd is gone, and when it is back.
func (d *Desk) watchConnection() {
	connection := d.client.ActiveConnection()
	lost := false
	for {
		state := connection.GetState()
		switch {
		case state == connectivity.TransientFailure && !lost:
			lost = true
			d.tell(fmt.Sprintf("The class's etcd at %s does not answer. The desk goes on trying. "+
				"If the class has another address now, type it here.", d.host()))
		case state == connectivity.Ready && lost:
			lost = false
			d.tell("The class's etcd is back.")
		case state == connectivity.Idle:
			connection.Connect()
		}
		if !connection.WaitForStateChange(d.ctx, state) {
			return
		}
	}
}

// leases are those that were granted through a desk, the latest last.
type leases struct {
	mu  sync.Mutex
	ids []int64
}

const keptLeases = 1000

func (l *leases) add(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, id)
	l.ids = l.ids[max(0, len(l.ids)-keptLeases):]
}

// list answers which leases there are: those granted through this desk, and those that
// keys with the prefix have. Etcd lists leases only to who may read the keys of all.
func (d *Desk) list(ctx context.Context, prefix prefix) (*pb.LeaseLeasesResponse, error) {
	got, err := d.client.Get(ctx, string(prefix), clientv3.WithPrefix()) // WithKeysOnly would leave out the leases.
	if err != nil {
		return nil, err
	}
	d.leases.mu.Lock()
	ids := slices.Clone(d.leases.ids)
	d.leases.mu.Unlock()
	for _, kv := range got.Kvs {
		if kv.Lease != 0 {
			ids = append(ids, kv.Lease)
		}
	}
	slices.Sort(ids)
	all := &pb.LeaseLeasesResponse{Header: got.Header}
	for _, id := range slices.Compact(ids) {
		lease, err := d.client.TimeToLive(ctx, clientv3.LeaseID(id))
		if err != nil {
			return nil, err
		}
		if lease.TTL > 0 {
			all.Leases = append(all.Leases, &pb.LeaseStatus{ID: id})
			continue
		}
		d.leases.mu.Lock()
		d.leases.ids = slices.DeleteFunc(d.leases.ids, func(old int64) bool { return old == id })
		d.leases.mu.Unlock()
	}
	return all, nil
}

// here has a list of members name the desk instead of them: a client that takes their
// addresses for its own would come to etcd with no certificate.
func here(list *pb.MemberListResponse, address string) {
	at := (&url.URL{Scheme: "http", Host: address}).String()
	for _, member := range list.Members {
		member.ClientURLs = []string{at}
	}
}
