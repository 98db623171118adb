package harness

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The main thread does not end before the process does, and /proc/self shows
// its network. So it is kept for the main goroutine, which changes no network.
func init() { runtime.LockOSThread() }

// NewNetwork returns a network that has nothing but a loopback interface, which
// has LocalAddress as well. It goes with the test and with the last process in it.
// Making one takes a privilege, which root has.
func NewNetwork(t *testing.T) (Network, error) {
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
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return err
	}
	// A second address goes by a name of its own.
	if request, err = unix.NewIfreq("lo:0"); err != nil {
		return err
	}
	if err := request.SetInet4Addr(net.ParseIP(LocalAddress).To4()); err != nil {
		return err
	}
	return unix.IoctlIfreq(socket, unix.SIOCSIFADDR, request)
}
