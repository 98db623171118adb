// Package ports reserves ports of 127.0.0.1 for whoever does not listen at theirs all
// the time. The port of a member that is down would otherwise be given to the next
// cluster on the machine, and the member could not come back.
package ports

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
)

// The free ports that Reserve tries. They lie below those that Linux, macOS and Windows
// take for outgoing connections.
const (
	firstFree = 20000
	lastFree  = 32000
)

// Reserved are ports, those that were free of which Reserve gives to nobody else, in any
// process. The zero value has none.
type Reserved struct {
	Numbers []int

	marks []io.Closer
}

// Reserve returns count TCP ports at which nobody listens: those from first on, or free
// ones when first is 0. Free ones stay reserved until Release is called, or the process
// has ended; others are the affair of whoever chose them. The error says which one cannot
// be had, or that too few can, and the system's reason: that somebody listens there
// already is only one.
func Reserve(first, count int) (Reserved, error) {
	var r Reserved
	if first != 0 {
		for number := first; number < first+count; number++ {
			if err := listens(number); err != nil {
				return Reserved{}, err
			}
			r.Numbers = append(r.Numbers, number)
		}
		return r, nil
	}
	var reason error
	for _, offset := range rand.Perm(lastFree - firstFree) {
		number := firstFree + offset
		mark, err := reserve(number)
		if err != nil {
			reason = err
			continue
		}
		r.Numbers, r.marks = append(r.Numbers, number), append(r.marks, mark)
		if len(r.Numbers) == count {
			return r, nil
		}
	}
	return Reserved{}, errors.Join(
		fmt.Errorf("not %d ports are free from %d to %d: %w", count, firstFree, lastFree, reason), r.Release())
}

// Row returns count TCP ports in a row at which nobody listens, reserved as those of
// Reserve are. The error says that there is no such row, and the system's reason.
func Row(count int) (Reserved, error) {
	var reason error
	for range 100 {
		var r Reserved
		first := firstFree + rand.IntN(lastFree-firstFree-count)
		for number := first; number < first+count; number++ {
			mark, err := reserve(number)
			if err != nil {
				reason = err
				break
			}
			r.Numbers, r.marks = append(r.Numbers, number), append(r.marks, mark)
		}
		if len(r.Numbers) == count {
			return r, nil
		}
		r.Release()
	}
	return Reserved{}, fmt.Errorf("not %d ports in a row are free from %d to %d: %w", count, firstFree, lastFree, reason)
}

// reserve takes something of the same number as a mark, which the system gives to one
// alone, and takes back from a process that was killed.
func reserve(number int) (io.Closer, error) {
	mark, err := mark(number)
	if err != nil {
		return nil, err
	}
	if err := listens(number); err != nil {
		return nil, errors.Join(err, mark.Close())
	}
	return mark, nil
}

// Release lets others have the ports.
func (r Reserved) Release() error {
	var failures []error
	for _, mark := range r.marks {
		failures = append(failures, mark.Close())
	}
	return errors.Join(failures...)
}

// listens returns nil when one can listen at the TCP port now: nobody else does.
func listens(number int) error {
	listener, err := net.Listen("tcp", address(number))
	if err != nil {
		return err
	}
	return listener.Close()
}

func address(number int) string { return "127.0.0.1:" + strconv.Itoa(number) }
