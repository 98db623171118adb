package harness

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The main thread does not end before the process does, and /proc/self shows
// its network. So it is kept for the main goroutine, which changes no network.
func init() { runtime.LockOSThread() }

// NewNetwork returns a network that has nothing but a loopback interface. It
// goes with the test and with the last process in it. Making one takes a
// privilege, which root has.
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
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// Cable connects two networks, in which it has the addresses given, such as
// 10.7.1.1/24. It goes with either network.
func Cable(t *testing.T, one, other Network, addressOne, addressOther string) error {
	t.Helper()
	// A network has no name. That of a process that is in it serves as one.
	resident := exec.Command("cat")
	stay, err := resident.StdinPipe()
	if err != nil {
		return err
	}
	if err := other(resident.Start); err != nil {
		return fmt.Errorf("start a process in a network: %w", err)
	}
	defer func() {
		stay.Close()
		resident.Wait()
	}()
	end := fmt.Sprint("c", cables.Add(1))
	for _, step := range []struct {
		in   Network
		args []string
	}{
		{one, []string{"link", "add", end, "type", "veth", "peer", "name", "class", "netns", strconv.Itoa(resident.Process.Pid)}},
		{one, []string{"address", "add", addressOne, "dev", end}},
		{one, []string{"link", "set", end, "up"}},
		{other, []string{"address", "add", addressOther, "dev", "class"}},
		{other, []string{"link", "set", "class", "up"}},
	} {
		if err := step.in(func() error {
			if output, err := exec.Command("ip", step.args...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w\n%s", strings.Join(step.args, " "), err, output)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// cables counts those that were laid, so that each has a name of its own.
var cables atomic.Int64
