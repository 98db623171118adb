package tests

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The main thread does not end before the process does, and /proc/self shows
// its network. So it is kept for the main goroutine, which changes no network.
func init() { runtime.LockOSThread() }

// newNetwork returns a network that has nothing but a loopback interface. It
// goes with the test and with the last process in it. Making one takes a
// privilege, which root has.
func newNetwork(t *testing.T) (network, error) {
	var namespace *os.File
	err := onNewThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare the network: %w", err)
		}
		if err := raiseLoopback(); err != nil {
			return fmt.Errorf("raise the loopback interface: %w", err)
		}
		namespace, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { namespace.Close() })
	return func(f func() error) error {
		return onNewThread(func() error {
			err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
			if err != nil {
				return fmt.Errorf("enter a network: %w", err)
			}
			return f()
		})
	}, nil
}

// onNewThread runs f, which may change the network of its thread.
func onNewThread(f func() error) error {
	result := make(chan error)
	go func() {
		// It is never unlocked, so the thread ends with this goroutine, and no
		// other goroutine gets it.
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// TestNetworks checks that a port of one network is not that of another, and
// that the tests stay in their own.
func TestNetworks(t *testing.T) {
	parallel(t)
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	one, err := newNetwork(t)
	if err != nil {
		t.Skip(err)
	}
	other, err := newNetwork(t)
	if err != nil {
		t.Fatal(err)
	}
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
		network network
		reached bool
	}{
		{"the network itself", one, true},
		{"another network", other, false},
		{"the network of the machine", machine, false},
	} {
		connection, err := c.network.dial(t.Context(), "tcp", address)
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
