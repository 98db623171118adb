package tests

import (
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestNetworks checks that a port of one network is not that of another, and
// that the tests stay in their own.
func TestNetworks(t *testing.T) {
	t.Parallel()
	before, err := os.Readlink("/proc/self/ns/net")
	etcdtest.NoError(t, err)
	one, err := harness.NewNetwork(t)
	if err != nil {
		etcdtest.SkipUnlessCI(t, err)
	}
	other, err := harness.NewNetwork(t)
	etcdtest.NoError(t, err)
	var listener net.Listener
	if err := one(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	for _, c := range []struct {
		name    string
		network harness.Network
		reached bool
	}{
		{"the network itself", one, true},
		{"another network", other, false},
		{"the network of the machine", harness.Machine, false},
	} {
		connection, err := c.network.Dial(t.Context(), "tcp", address)
		if err == nil {
			connection.Close()
		}
		if c.reached != (err == nil) {
			t.Errorf("reached from %s: %v, want %v (%v)", c.name, err == nil, c.reached, err)
		}
	}
	// As many goroutines at once take up all threads that serve any goroutine.
	var ready, done sync.WaitGroup
	ready.Add(50)
	for range 50 {
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			ready.Wait()
			after, err := os.Readlink("/proc/thread-self/ns/net")
			if err != nil || after != before {
				t.Errorf("a thread of the tests is in %s (%v), not in %s", after, err, before)
			}
		})
	}
	done.Wait()
}
