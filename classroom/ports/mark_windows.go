package ports

import (
	"io"
	"net"
	"strconv"
)

// mark takes the TCP port of another address of this machine: macOS has none by default,
// and wine lacks what Go wants for a UDP port.
func mark(number int) (io.Closer, error) {
	return net.Listen("tcp", "127.0.0.2:"+strconv.Itoa(number))
}
