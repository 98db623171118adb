package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// nextPort is where FreePorts goes on. It only grows, so that tests that run at
// the same time are given different ports.
var nextPort atomic.Int64

func init() { nextPort.Store(10000 + rand.Int64N(5000)) }

// FreePorts returns the first of count ports in a row on which nothing listens.
func FreePorts(t testing.TB, count int) int {
	t.Helper()
search:
	for range 100 {
		first := int(nextPort.Add(int64(count))) - count
		for port := first; port < first+count; port++ {
			listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err != nil {
				continue search
			}
			listener.Close()
		}
		return first
	}
	t.Fatalf("no %d free ports in a row", count)
	return 0
}

// usualTaken is held by the test of this process that uses the usual port.
var usualTaken sync.Mutex

// UsualPort gives the port 2379 to a test until it ends, also before the tests of other
// packages, which are other processes. It skips the test when another program uses the
// port; in CI none may.
func UsualPort(t *testing.T) {
	t.Helper()
	usualTaken.Lock()
	t.Cleanup(usualTaken.Unlock)
	unlock, err := lockFolder()
	if err != nil {
		t.Fatalf("wait for the usual port: %v", err)
	}
	t.Cleanup(func() { unlock() })
	listener, err := net.Listen("tcp", UsualEndpoint)
	if err != nil {
		SkipUnlessCI(t, fmt.Errorf("this test needs the port; stop what uses it: %w", err))
	}
	listener.Close()
}
