package harness

import (
	"fmt"
	"net"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/ports"
)

// FreePorts returns the first of count ports in a row, which nobody else is given until
// the test has ended.
func FreePorts(t testing.TB, count int) int {
	t.Helper()
	row, err := ports.Row(count)
	etcdtest.NoError(t, err)
	t.Cleanup(func() { row.Release() })
	return row.Numbers[0]
}

// UsualPort gives the port 2379 to a test until it ends, also before the tests of other
// packages, which are other processes. It skips the test when another program uses the
// port; in CI none may.
func UsualPort(t *testing.T) {
	t.Helper()
	// Who has the UDP port of that number has the other, as in the package ports.
	etcdtest.Within(t, time.Hour, "the tests before this one leave the usual port", func() bool {
		mark, err := net.ListenPacket("udp", UsualEndpoint)
		if err == nil {
			t.Cleanup(func() { mark.Close() })
		}
		return err == nil
	})
	listener, err := net.Listen("tcp", UsualEndpoint)
	if err != nil {
		etcdtest.SkipUnlessCI(t, fmt.Errorf("this test needs the port; stop what uses it: %w", err))
	}
	listener.Close()
}
