package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Network runs a function in some network. The programs that the function
// starts and the connections that it opens belong to that network.
type Network func(func() error) error

// Machine is the network that the tests themselves run in.
var Machine Network = func(f func() error) error { return f() }

// Dial connects to an address, which must be numeric, in the network.
func (in Network) Dial(ctx context.Context, protocol, address string) (net.Conn, error) {
	var connection net.Conn
	err := in(func() (err error) {
		connection, err = new(net.Dialer).DialContext(ctx, protocol, address)
		return err
	})
	return connection, err
}

// LocalAddress is what a network has beside 127.0.0.1, when a test made it: an address as
// a machine has it in a room.
const LocalAddress = "192.168.1.5"

// Cable has connections to LocalAddress, at some ports, go over to another network, as to
// another machine. It ends with the test.
func (in Network) Cable(t testing.TB, other Network, ports ...int) {
	t.Helper()
	for _, port := range ports {
		address := net.JoinHostPort(LocalAddress, strconv.Itoa(port))
		var listener net.Listener
		if err := in(func() (err error) {
			listener, err = net.Listen("tcp", address)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		serveRelay(t, listener, other, address)
	}
}

// Watchers returns the number of watchers of the etcd on the usual port.
func (in Network) Watchers(ctx context.Context) (int, error) {
	return in.Metric(ctx, UsualEndpoint, "etcd_debugging_mvcc_watcher_total ", "")
}

// Metric returns the count in the first line of a member's metrics that begins with
// a name, and has a label in it.
func (in Network) Metric(ctx context.Context, endpoint, name, label string) (int, error) {
	metrics, err := in.ask(ctx, endpoint, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, name) && strings.Contains(line, label) {
			line = strings.TrimSpace(line)
			count, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			return int(count), err
		}
	}
	return 0, fmt.Errorf("the metrics of %s do not count %s%s", endpoint, name, label)
}

// Healthy reports whether the etcd on the usual port answers that it is.
func (in Network) Healthy(ctx context.Context) bool {
	health, err := in.ask(ctx, UsualEndpoint, "/health")
	return err == nil && strings.Contains(health, `"health":"true"`)
}

// UsualEndpoint is the endpoint of an etcd on the usual port.
const UsualEndpoint = "127.0.0.1:2379"

// ask returns what a member answers.
func (in Network) ask(ctx context.Context, endpoint, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx, http.MethodGet, "http://"+endpoint+path, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: in.Dial, DisableKeepAlives: true,
	}}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}
