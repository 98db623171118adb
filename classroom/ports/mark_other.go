//go:build !windows

package ports

import (
	"io"
	"net"
)

// mark takes the UDP port.
func mark(number int) (io.Closer, error) { return net.ListenPacket("udp", address(number)) }
