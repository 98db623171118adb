package etcdtest

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"example.com/etcd-by-example/classroom/cluster"
)

// Places returns how many members of etcd the tests of this machine run at a time, all
// processes together: more in the tiers that have more to wait for.
func Places() int {
	if Long() {
		return 16
	}
	return 6
}

// firstPlace is the UDP port of 127.0.0.1 that is the first of the places: who listens
// there has it, and the system takes it back from a process that was killed. The port
// before it is had by who collects places: two that each had half of what they need would
// wait for each other.
const firstPlace = 19981

// reserved has, by the names of tests, how many members they may still start.
var reserved = struct {
	sync.Mutex
	members map[string]int
}{members: map[string]int{}}

// holders bounds how many tests of this process have places.
var holders = semaphore.NewWeighted(math.MaxInt64)

// collecting is had by the test of this process that takes places, and first is how many
// wait for it who go before others.
var (
	collecting sync.Mutex
	first      atomic.Int32
)

// Reserve has a test wait until it may start so many members, and lets others have the
// places when it has ended. A test that starts several etcds, or a program that does,
// reserves all its members at once: Etcd does so by itself for who starts one alone. A
// test that runs beside others calls t.Parallel before, in which it waits for them.
// What bounds the wait is -timeout.
func Reserve(t testing.TB, members int) {
	t.Helper()
	reserve(t, members, func() {
		for first.Load() > 0 || !collecting.TryLock() {
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// ReserveFirst is Reserve for what takes longest: it goes before all others that wait.
func ReserveFirst(t testing.TB, members int) {
	t.Helper()
	reserve(t, members, func() {
		first.Add(1)
		collecting.Lock()
		first.Add(-1)
	})
}

func reserve(t testing.TB, members int, lock func()) {
	t.Helper()
	if members > Places() {
		t.Fatalf("%d members at a time are more than %d", members, Places())
	}
	if holder := holding(t.Name()); holder != "" {
		t.Fatalf("%s has places already: reserve all that it needs at once", holder)
	}
	if err := holders.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	lock()
	places, err := collect(t.Context(), members)
	collecting.Unlock()
	if err != nil {
		holders.Release(1)
		t.Fatal(err)
	}
	reserved.Lock()
	defer reserved.Unlock()
	reserved.members[t.Name()] = members
	t.Cleanup(func() {
		reserved.Lock()
		defer reserved.Unlock()
		delete(reserved.members, t.Name())
		for _, place := range places {
			place.Close()
		}
		holders.Release(1)
	})
}

// holding returns the test of that name, or the test that it is a part of, that has
// places, or "".
func holding(name string) string {
	reserved.Lock()
	defer reserved.Unlock()
	for found := true; found; {
		if _, has := reserved.members[name]; has {
			return name
		}
		end := strings.LastIndex(name, "/")
		found = end >= 0
		name = name[:max(end, 0)]
	}
	return ""
}

// collect waits for places, in turn with other processes.
func collect(ctx context.Context, count int) (places []net.PacketConn, err error) {
	turn, err := take(ctx, firstPlace-1, 1)
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	for len(places) < count {
		place, err := take(ctx, firstPlace, Places())
		if err != nil {
			for _, place := range places {
				place.Close()
			}
			return nil, err
		}
		places = append(places, place)
	}
	return places, nil
}

// take waits for one of so many UDP ports.
func take(ctx context.Context, from, count int) (net.PacketConn, error) {
	// A run that ends by its -timeout shows this.
	told := time.AfterFunc(time.Minute, func() {
		fmt.Fprintf(os.Stderr, "for a minute no UDP port of 127.0.0.1 from %d to %d was free: other tests have them, or another program\n",
			from, from+count-1)
	})
	defer told.Stop()
	for {
		var err error
		for port := from; port < from+count; port++ {
			place, failed := net.ListenPacket("udp", fmt.Sprint("127.0.0.1:", port))
			if failed == nil {
				return place, nil
			}
			err = failed
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a place for members: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Etcd starts members when there are places for them, and ends them with the test. They
// do not wait for the disk, except for a benchmark: no test takes the machine its power.
func Etcd(t testing.TB, config cluster.Config) *cluster.Cluster {
	t.Helper()
	count := max(config.Members, 1)
	holder := holding(t.Name())
	if holder == "" {
		Reserve(t, count)
		holder = t.Name()
	}
	reserved.Lock()
	reserved.members[holder] -= count
	missing := -reserved.members[holder]
	reserved.Unlock()
	if missing > 0 {
		t.Fatalf("%s has no places for %d members: reserve all that it needs at once", holder, missing)
	}
	if _, measures := t.(*testing.B); !measures {
		config.Args = append([]string{"--unsafe-no-fsync"}, config.Args...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	etcd, err := cluster.Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
		reserved.Lock()
		defer reserved.Unlock()
		if _, has := reserved.members[holder]; has {
			reserved.members[holder] += count
		}
	})
	return etcd
}

// Connect returns a client, closed with the test.
func Connect(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}
