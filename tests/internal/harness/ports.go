package harness

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/ports"
)

// FreePorts returns the first of count ports in a row, which nobody else is given until
// the test has ended.
func FreePorts(t testing.TB, count int) int {
	t.Helper()
	row, err := ports.Row(count)
	NoError(t, err)
	t.Cleanup(func() { row.Release() })
	return row.Numbers[0]
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
		etcdtest.SkipUnlessCI(t, fmt.Errorf("this test needs the port; stop what uses it: %w", err))
	}
	listener.Close()
}
