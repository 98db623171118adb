// Package class shares one etcd among the people of a room. The teacher's side lets
// learners in: it signs who they are, and gives each the keys below a name. A learner's
// side is a desk: it listens where an etcd of their own would, and everything that the
// page says works there as it stands.
//
// The wall between learners is etcd's own: users, roles and certificates. A learner
// holds the certificate, so what a desk does not do, somebody may try without one.
package class

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"
)

const (
	// JoinPort is where a class lets learners in, unless it is told another.
	JoinPort = "2378"

	joinPath  = "/join"
	maxJoin   = 16 << 10
	joinLimit = 20 * time.Second

	// Who knows no secret may try this often. There are a million secrets.
	triesAtOnce = 10
	tryEvery    = 10 * time.Second
	maxTriers   = 1000
)

// Limits are arguments for the members of a class: what is past is forgotten, so that
// the database stays small, and when it grows all the same, there is a limit. That of a
// request stays etcd's own, 1.5 MiB: the page says so.
var Limits = []string{
	"--auto-compaction-mode=revision",
	"--auto-compaction-retention=10000",
	"--quota-backend-bytes=536870912",
	"--enable-grpc-gateway=false",
}

// joinRequest is what a learner sends, when the class is the one that they want to join.
type joinRequest struct {
	Name    string
	Secret  string
	Request []byte // to sign a certificate, as DER
	Again   bool   // the name was theirs before
}

// joinAnswer is how to reach etcd from then on.
type joinAnswer struct {
	Certificate []byte // as DER
	Ports       []int  // of etcd's members, on the address of the class
}

// Class lets learners in, and acts on those who are in.
type Class struct {
	authority *Authority
	register  register
	client    *clientv3.Client
	etcd      clientv3.Config
	ports     []int // of the members

	address string
	server  *http.Server
	serving sync.WaitGroup

	mu    sync.Mutex
	wrong map[string]*rate.Limiter // secrets, by the IP addresses from which they came
}

// Config says what a class has.
type Config struct {
	Authority *Authority

	// Etcd is how root reaches the members, which are Authority.Secure.
	Etcd clientv3.Config

	// Ports are where learners reach the members, on every address of this machine.
	Ports []int

	// Address is where learners are let in, as host:port.
	Address string
}

// Open gives etcd its users, if it has none yet, and lets learners in until Close.
func Open(ctx context.Context, config Config) (_ *Class, err error) {
	c := &Class{authority: config.Authority, etcd: config.Etcd, ports: config.Ports,
		wrong: map[string]*rate.Limiter{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.client, err = clientv3.New(patient(config.Etcd)); err != nil {
		return nil, fmt.Errorf("make a client of the class's etcd: %w", err)
	}
	c.register = register{c.client}
	if err := c.register.found(ctx); err != nil {
		return nil, err
	}
	shown, err := c.authority.server()
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", config.Address, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*shown}})
	if err != nil {
		return nil, fmt.Errorf("listen for learners: %w", err)
	}
	c.address = listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+joinPath, c.serveJoin)
	c.server = &http.Server{
		Handler:        mux,
		ReadTimeout:    joinLimit,
		WriteTimeout:   joinLimit,
		MaxHeaderBytes: maxJoin,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	c.serving.Go(func() { c.server.Serve(listener) })
	return c, nil
}

// Close lets nobody in any more. Who is in stays.
func (c *Class) Close() error {
	var failures []error
	if c.server != nil {
		failures = append(failures, c.server.Close())
	}
	c.serving.Wait()
	if c.client != nil {
		failures = append(failures, c.client.Close())
	}
	return errors.Join(failures...)
}

// Code returns what a learner needs to come in by an address of this machine, which
// has no port.
func (c *Class) Code(host string) Code {
	_, port, _ := net.SplitHostPort(c.address)
	return Code{net.JoinHostPort(host, port), c.authority.print(), c.authority.secret}
}

// serveJoin lets a learner in, or says why not.
func (c *Class) serveJoin(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), joinLimit)
	defer cancel()
	var asked joinRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJoin)).Decode(&asked); err != nil {
		http.Error(w, "this is no request to join", http.StatusBadRequest)
		return
	}
	if err := c.opens(r.RemoteAddr, asked.Secret); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	request, err := x509.ParseCertificateRequest(asked.Request)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		http.Error(w, "this is no request for a certificate", http.StatusBadRequest)
		return
	}
	answer, err := c.admit(ctx, asked.Name, request, asked.Again)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

// admit gives a learner a name and the certificate for it.
func (c *Class) admit(ctx context.Context, name string, request *x509.CertificateRequest, again bool) (joinAnswer, error) {
	if err := checkName(name); err != nil {
		return joinAnswer{}, err
	}
	key, err := hash(request.PublicKey)
	if err != nil {
		return joinAnswer{}, err
	}
	user, err := c.register.join(ctx, name, key, again)
	if err != nil {
		return joinAnswer{}, err
	}
	cert, err := c.authority.user(user, request.PublicKey)
	if err != nil {
		return joinAnswer{}, err
	}
	return joinAnswer{cert.Raw, c.ports}, nil
}

var (
	errSecret = errors.New("the last four characters of the code are wrong: read it once more")
	errTries  = errors.New("too many wrong codes came from your address: wait a minute")
)

// opens returns nil when a secret is the class's. After too many wrong ones from an
// address it looks at none from there for a while.
func (c *Class) opens(remote, secret string) error {
	host, _, _ := net.SplitHostPort(remote)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong[host] == nil && len(c.wrong) >= maxTriers {
		host = "" // All further addresses share the tries of one.
	}
	tries := c.wrong[host]
	if tries == nil {
		tries = rate.NewLimiter(rate.Every(tryEvery), triesAtOnce)
	}
	switch {
	case tries.Tokens() < 1:
		return errTries
	case subtle.ConstantTimeCompare([]byte(secret), c.authority.secret[:]) == 1:
		return nil
	}
	tries.Allow() // It counts, and does so.
	c.wrong[host] = tries
	return errSecret
}

// List returns all who have ever joined, in the order of their names.
func (c *Class) List(ctx context.Context) ([]Learner, error) { return c.register.list(ctx) }

// Remove ends a learner's part in the class, with all their keys. Nobody gets the name
// again. What they watch already, they see until they leave.
func (c *Class) Remove(ctx context.Context, name string) error { return c.register.remove(ctx, name) }

// Free lets somebody with another key, such as one with a new laptop, have a name and
// its keys. Who had it has it no more.
func (c *Class) Free(ctx context.Context, name string) error { return c.register.free(ctx, name) }

// Reset deletes the keys of a learner, or those of Common, and returns how many.
func (c *Class) Reset(ctx context.Context, name string) (int64, error) {
	return c.register.reset(ctx, name)
}

// Room makes room in a database that is full: it forgets what is past, gives back to the
// disk what that leaves free, and lets etcd write again.
func (c *Class) Room(ctx context.Context) error { return c.register.room(ctx, c.etcd.Endpoints) }
