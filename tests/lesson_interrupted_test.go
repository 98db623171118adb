//go:build unix

package tests

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/relay"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestCtrlC interrupts each lesson that waits: it ends soon, with at most one
// line, and leaves no lease. SIGTERM does the same.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	for _, c := range []struct {
		lesson, sign string
		signal       syscall.Signal
		flags        []string // with which it would go on for long
	}{
		{"05-lease", "granted", syscall.SIGINT, []string{"-ttl", "600"}},
		{"06-watch", "PUT", syscall.SIGINT, []string{"-for", "1h"}},
		{"08-txn-lock", "has the lock", syscall.SIGINT, []string{"-ttl", "600", "-work", "1h"}},
		{"08-txn-lock", "has the lock", syscall.SIGTERM, []string{"-ttl", "600", "-work", "1h"}},
	} {
		t.Run(c.lesson+", "+c.signal.String(), func(t *testing.T) {
			p := harness.Start(t, endpoint, nil, c.lesson, c.flags...)
			p.Await(t, c.sign)
			etcdtest.NoError(t, p.Process.Signal(c.signal))
			got := p.Wait(t)
			if got.Status < 0 || got.Status > 1 || strings.Count(got.Stderr, "\n") > 1 {
				t.Errorf("status %d\n%s", got.Status, got.Stderr)
			}
			harness.NoLeases(t, etcdtest.Connect(t, endpoint))
		})
	}
}

// TestDuringGrant strikes a lesson while the answer that has the ID of its lease is
// under way: a Ctrl-C leaves no lease, and a network that stands still ends it.
func TestDuringGrant(t *testing.T) {
	t.Parallel()
	for _, lesson := range []string{"05-lease", "08-txn-lock"} {
		t.Run(lesson+", Ctrl-C", func(t *testing.T) {
			t.Parallel()
			p := startGranting(t, lesson)
			harness.Interrupt(t, p.Running)
			select {
			case <-p.call.Caller.Done():
				t.Error("the lesson no longer waits for the answer")
			case <-time.After(300 * time.Millisecond): // The signal needs a moment.
			}
			close(p.answer)
			p.Wait(t).Want(t, 1, "", "interrupted: ")
			harness.NoLeases(t, etcdtest.Connect(t, p.network.Address))
		})
		t.Run(lesson+", silence", func(t *testing.T) {
			etcdtest.NeedsLong(t, "a lesson waits until its time is over")
			t.Parallel()
			p := startGranting(t, lesson)
			p.network.Hold()
			p.Wait(t).Want(t, 1, "", "deadline exceeded")
		})
	}
}

// TestNoAnswer keeps the answer to one call back for ever, of an etcd that else answers: a
// lesson gives up by the deadline of the call.
func TestNoAnswer(t *testing.T) {
	etcdtest.NeedsLong(t, "the lessons wait until their time is over")
	t.Parallel()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	for lesson, method := range map[string]string{
		"01-connect": pb.KV_Range_FullMethodName,
		"02-put":     pb.KV_Put_FullMethodName,
		"03-get":     pb.KV_Put_FullMethodName,
		"04-delete":  pb.KV_Put_FullMethodName,
		"05-lease":   pb.KV_Put_FullMethodName,
		"06-watch":   pb.KV_Put_FullMethodName,
		"07-op":      pb.KV_Put_FullMethodName,
	} {
		t.Run(lesson, func(t *testing.T) {
			t.Parallel()
			startCalling(t, endpoint, method, lesson, flags(lesson, 3)...).Wait(t).Want(t, 1, "", "deadline exceeded")
		})
	}
}

// calling is a lesson that waits for the answer to its first call of a method.
type calling struct {
	*harness.Running
	network *relay.Relay
	call    *relay.Call
	answer  chan relay.Verdict // to be closed, and the answer goes on
}

// startGranting starts a lesson on an etcd of its own, which has granted the lesson's
// lease when it returns.
func startGranting(t *testing.T, lesson string) calling {
	t.Helper()
	endpoint := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	return startCalling(t, endpoint, pb.Lease_LeaseGrant_FullMethodName, lesson, "-ttl", "60")
}

// startCalling starts a lesson, and returns when etcd has answered a call of the method
// and the network keeps the answer back.
func startCalling(t *testing.T, endpoint, method, lesson string, flags ...string) calling {
	t.Helper()
	network, err := relay.Start(endpoint, 0)
	etcdtest.NoError(t, err)
	t.Cleanup(network.Close)
	etcdtest.NoError(t, network.Ready(etcdtest.Soon(t)))
	answered, answer := make(chan *relay.Call, 1), make(chan relay.Verdict)
	network.Hook(func(m *relay.Message) relay.Verdict {
		if m.Method != method || !m.Answered {
			return relay.Pass
		}
		select {
		case answered <- m.Call:
		default: // It is not the first.
		}
		return m.Await(answer)
	})
	p := harness.Start(t, network.Address, []string{harness.Patient}, lesson, flags...)
	select {
	case call := <-answered:
		return calling{p, network, call, answer}
	case <-time.After(etcdtest.Limit):
		t.Fatal("the lesson makes no such call")
		return calling{}
	}
}

// TestSecondCtrlC interrupts a lesson whose etcd hangs: it tries to clean up, and a
// further Ctrl-C ends it at once.
func TestSecondCtrlC(t *testing.T) {
	t.Parallel()
	member := etcdtest.Etcd(t, cluster.Config{}).Members[0]
	p := harness.Start(t, member.Endpoint, nil, "08-txn-lock", "-work", "1h", "-ttl", "600")
	p.Await(t, "has the lock")
	etcdtest.NoError(t, member.Pause())
	// Two signals that come together are one.
	etcdtest.Eventually(t, "it ends", func() bool {
		p.Process.Signal(syscall.SIGINT)
		return p.HasEnded()
	})
	p.Wait(t).Want(t, -1, "", "")
}

// TestCtrlCWhileConnecting interrupts a lesson that waits for an answer to its first
// question.
func TestCtrlCWhileConnecting(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	etcdtest.NoError(t, err)
	defer listener.Close()
	p := harness.Start(t, listener.Addr().String(), []string{harness.Patient}, "02-put")
	conn, err := listener.Accept()
	etcdtest.NoError(t, err)
	defer conn.Close()
	harness.Interrupt(t, p)
	got := inTimeOf(t, p)
	got.Want(t, 1, "", "02-put: interrupted: connect to etcd\n")
	oneLine(t, got.Stderr)
}
