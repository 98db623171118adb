// Package ports reserves ports of 127.0.0.1 for whoever does not listen at theirs all
// the time. The port of a member that is down would otherwise be given to the next
// cluster on the machine, and the member could not come back.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports that Reserve tries. They lie below those that Linux, macOS and Windows
// take for outgoing connections.
const (
	first = 20000
	last  = 32000
)

// Reserved are ports that Reserve gives to nobody else, in any process.
type Reserved struct {
	Numbers []int

	marks []net.PacketConn
}

// Reserve returns count TCP ports at which nobody listens. They stay reserved until
// Release is called, or the process has ended. The error says that too few are free.
func Reserve(count int) (*Reserved, error) {
	r := &Reserved{}
	for _, offset := range rand.Perm(last - first) {
		if mark, err := reserve(first + offset); err == nil {
			r.Numbers, r.marks = append(r.Numbers, first+offset), append(r.marks, mark)
		}
		if len(r.Numbers) == count {
			return r, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("not %d ports are free from %d to %d", count, first, last), r.Release())
}

// reserve takes the UDP port of the same number as a mark: the system gives it to one
// alone, and takes it back from a process that was killed.
func reserve(number int) (mark net.PacketConn, err error) {
	mark, err = net.ListenPacket("udp", address(number))
	if err != nil {
		return nil, err
	}
	if err := Free(number); err != nil {
		return nil, errors.Join(err, mark.Close())
	}
	return mark, nil
}

// Release lets others have the ports.
func (r *Reserved) Release() error {
	var failures []error
	for _, mark := range r.marks {
		failures = append(failures, mark.Close())
	}
	return errors.Join(failures...)
}

// Free returns nil when nobody listens at the TCP port now.
func Free(number int) error {
	listener, err := net.Listen("tcp", address(number))
	if err != nil {
		return err
	}
	return listener.Close()
}

func address(number int) string { return "127.0.0.1:" + strconv.Itoa(number) }
