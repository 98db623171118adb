package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// peers is the network between the members of a cluster, in this process. Each
// member has a proxy of its own, through which it sends all its requests to the
// others: the proxy knows who asks whom, which one in front of a member's port
// could not tell. No privilege is needed to cut a member off there.
type peers struct {
	forward   *httputil.ReverseProxy
	transport *http.Transport
	listening map[string]string // the address at which a member listens for the others, by its host
	servers   []*http.Server
	serving   sync.WaitGroup // also of connections

	mu     sync.Mutex
	joined map[string]link // those of members that are not cut off, by their hosts
}

// link is a member's way to the others and back. It ends when the member is cut off.
type link struct {
	context.Context
	cut context.CancelFunc
}

// peerHost returns the host by which the others know the member with that number,
// from 0 on. It is an address that no machine has (RFC 5737): requests to one of
// this machine would go past a proxy, and etcd would look up a name.
func peerHost(i int) string { return "192.0.2." + strconv.Itoa(i+1) }

func newPeers() *peers {
	p := &peers{listening: map[string]string{}, joined: map[string]link{}}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	p.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, _ := strings.Cut(address, ":")
			return dialer.DialContext(ctx, network, p.listening[host])
		},
	}
	p.forward = &httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {}, // They name the member that they are for.
		Transport:     p.transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		// Any answer would be taken for that of the other member.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	return p
}

// add gives the member with that host, which listens at an address, a proxy and
// returns the proxy's URL. All members are added before the first one runs.
func (p *peers) add(host, listening string) (proxy string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for what a member sends to others: %w", err)
	}
	p.listening[host] = listening
	p.heal(host)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.pass(w, r, host)
		}),
		ErrorLog: p.forward.ErrorLog,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				p.serving.Add(1)
			case http.StateClosed:
				p.serving.Done()
			}
		},
	}
	p.servers = append(p.servers, server)
	p.serving.Go(func() { server.Serve(listener) })
	return "http://" + listener.Addr().String(), nil
}

// pass hands on a request of a member. It ends, and the connection with it, when
// one of the two is cut off.
func (p *peers) pass(w http.ResponseWriter, r *http.Request, from string) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	for _, host := range []string{from, r.URL.Hostname()} {
		p.mu.Lock()
		link, joined := p.joined[host]
		p.mu.Unlock()
		if !joined {
			panic(http.ErrAbortHandler)
		}
		defer context.AfterFunc(link, cancel)()
	}
	p.forward.ServeHTTP(w, r.WithContext(ctx))
}

func (p *peers) isCut(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, joined := p.joined[host]
	return !joined
}

func (p *peers) cut(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if link, joined := p.joined[host]; joined {
		link.cut()
		delete(p.joined, host)
	}
}

func (p *peers) heal(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, joined := p.joined[host]; !joined {
		ctx, cut := context.WithCancel(context.Background())
		p.joined[host] = link{ctx, cut}
	}
}

// close ends all that passes, and returns when nothing is left of it.
func (p *peers) close() error {
	var failures []error
	for _, server := range p.servers {
		failures = append(failures, server.Close())
	}
	for host := range p.listening {
		p.cut(host)
	}
	p.serving.Wait()
	p.transport.CloseIdleConnections()
	return errors.Join(failures...)
}

// throughProxy returns the environment with which a program sends its requests to
// other machines through a proxy, whatever it said about proxies before.
func throughProxy(environ []string, proxy string) []string {
	environ = slices.DeleteFunc(environ, func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return strings.EqualFold(name, "HTTP_PROXY") || strings.EqualFold(name, "NO_PROXY")
	})
	return append(environ, "HTTP_PROXY="+proxy)
}
