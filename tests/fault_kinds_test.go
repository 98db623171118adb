//go:build unix

package tests

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/process"
	"example.com/etcd-by-example/tests/internal/harness"
)

// fault is something that goes wrong. The table of faults and the proofs use the
// same ones.
type fault struct {
	name string

	// available returns why the fault cannot strike here. It may be nil: then it
	// can everywhere.
	available func() error

	// strike lets it happen, and returns what mends it. Whoever calls it decides
	// how long that is left alone. Both fail the test of the site when they cannot
	// do what they are for, and when etcd has broken a promise.
	strike func(*site) (mend func())
}

// site is where a fault strikes: an etcd, and programs that use it.
type site struct {
	*testing.T
	random   *rand.Rand
	etcd     *cluster.Cluster
	client   *clientv3.Client // reaches the members directly
	programs []*os.Process
	network  []*harness.Relay // between the programs and etcd
	broken   bool             // etcd was away: what a lease held may go as late as its TTL says
}

// newNetwork returns a network to all members, in any order, for one program.
func (s *site) newNetwork() (network []*harness.Relay) {
	for _, i := range s.random.Perm(len(s.etcd.Members)) {
		network = append(network, harness.NewRelay(s, s.etcd.Members[i].Endpoint))
	}
	s.network = append(s.network, network...)
	return network
}

// endpointsOf returns what a program is to connect to.
func endpointsOf(network []*harness.Relay) string {
	var endpoints []string
	for _, r := range network {
		endpoints = append(endpoints, r.Address)
	}
	return strings.Join(endpoints, ",")
}

// The faults of members. Those of which a majority is left want three of them.
var (
	killedMember  = fault{"member killed", nil, killFirst}
	killedLeader  = fault{"leader killed", nil, killLeading}
	pausedLeader  = fault{"leader paused", nil, pauseLeading}
	cutLeader     = fault{"leader cut off", nil, cutLeading}
	lostMajority  = fault{"no quorum", nil, killFollowers}
	killedAll     = fault{"all members killed", nil, killEverybody}
	replacedOne   = fault{"member replaced", nil, replaceMember}
	fullDisk      = fault{"disk full", mayMount, fillDisk}
	fullDatabase  = fault{"database full", nil, fillDatabase}
	compaction    = fault{"history compacted", nil, compactAgain}
	revokedLeases = fault{"leases revoked", nil, revokeAll}
)

// The faults of programs and of their network.
var (
	pausedPrograms = fault{"programs paused", nil, pausePrograms}
	slowNetwork    = fault{"slow network", nil, slowDown}
	cutConnections = fault{"connections cut", nil, cutEach}
)

// clusterFaults are those that a proof with three members meets again and again.
func clusterFaults() []fault {
	if etcdtest.Nightly() {
		return []fault{killedLeader, cutLeader, pausedLeader, lostMajority, killedAll, replacedOne, slowNetwork}
	}
	return []fault{killedLeader, cutLeader}
}

// comesAndGoes lets the fault strike, and mends it within a time that some leases of
// 2 s outlast and others do not.
func (f fault) comesAndGoes(s *site) {
	mend := f.strike(s)
	time.Sleep(time.Duration(s.random.IntN(int(4 * time.Second))))
	mend()
}

func nothing() {}

func (s *site) kill(m *cluster.Member) {
	s.broken = true
	etcdtest.NoError(s, m.Kill())
}

func (s *site) start(members ...*cluster.Member) {
	etcdtest.NoError(s, s.etcd.Restart(etcdtest.Soon(s), members))
	// The longer a member was away, the longer a client waits before it tries again.
	s.client = etcdtest.Connect(s, s.etcd.Endpoints()...)
}

func killFirst(s *site) func() {
	s.kill(s.etcd.Members[0])
	return func() { s.start(s.etcd.Members[0]) }
}

func killLeading(s *site) func() {
	leader := harness.Leader(s, s.etcd)
	s.kill(leader)
	return func() { s.start(leader) }
}

func pauseLeading(s *site) func() {
	leader := harness.Leader(s, s.etcd)
	s.broken = true
	etcdtest.NoError(s, leader.Pause())
	return func() { etcdtest.NoError(s, leader.Resume()) }
}

// cutLeading cuts the leader off from the other members. Clients reach all of them.
func cutLeading(s *site) func() {
	leader := harness.Leader(s, s.etcd)
	s.broken = true
	etcdtest.NoError(s, leader.Cut())
	return func() { etcdtest.NoError(s, leader.Heal()) }
}

// killFollowers leaves the leader alone.
func killFollowers(s *site) func() {
	followers := harness.Others(s.etcd, harness.Leader(s, s.etcd))
	for _, m := range followers {
		s.kill(m)
	}
	return func() { s.start(followers...) }
}

// killEverybody kills all members at once while somebody writes, and looks for
// what was acknowledged when they are back. This does not test that they wait for
// the disk: what a killed program has written is in the memory of the system.
func killEverybody(s *site) func() {
	s.broken = true
	ctx, stop := context.WithCancel(s.Context())
	defer stop()
	var mu sync.Mutex
	var keys []string
	var writing, killing sync.WaitGroup
	for n := range 4 {
		writing.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("/elsewhere/%d/%d", n, i)
				if _, err := s.client.Put(ctx, key, "kept"); err != nil {
					return
				}
				mu.Lock()
				keys = append(keys, key)
				mu.Unlock()
			}
		})
	}
	etcdtest.Eventually(s, "100 writes are acknowledged", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(keys) >= 100
	})
	for _, m := range s.etcd.Members {
		killing.Go(func() {
			if err := m.Kill(); err != nil {
				s.Error(err)
			}
		})
	}
	killing.Wait()
	time.Sleep(100 * time.Millisecond) // Answers may still be on their way.
	stop()
	writing.Wait()
	return func() {
		s.start(s.etcd.Members...)
		for _, key := range keys {
			s.has(key)
		}
		s.Logf("%d acknowledged writes looked for", len(keys))
	}
}

// has fails the test when etcd has lost a key.
func (s *site) has(key string) {
	s.Helper()
	if get, err := s.client.Get(etcdtest.Soon(s), key, clientv3.WithCountOnly()); err != nil || get.Count != 1 {
		s.Errorf("%s was acknowledged, and is not there: %v, %v", key, get, err)
	}
}

// replaceMember removes a member; to mend that, its data is wiped, and it is added
// again, as a machine that was replaced would be.
func replaceMember(s *site) func() {
	m := s.etcd.Members[s.random.IntN(len(s.etcd.Members))]
	s.broken = true
	id := s.id(m)
	// The member itself would not answer to this any more.
	var others []string
	for _, other := range harness.Others(s.etcd, m) {
		others = append(others, other.Endpoint)
	}
	client := etcdtest.Connect(s, others...)
	s.changeMembers("removed", rpctypes.ErrMemberNotFound, func(ctx context.Context) error {
		_, err := client.MemberRemove(ctx, id)
		return err
	})
	return func() {
		etcdtest.NoError(s, m.Kill())
		s.changeMembers("added", rpctypes.ErrPeerURLExist, func(ctx context.Context) error {
			_, err := client.MemberAdd(ctx, []string{m.PeerURL})
			return err
		})
		etcdtest.NoError(s, m.Replace(etcdtest.Soon(s)))
		if s.id(m) == id {
			s.Errorf("%s is the member that it was", m.Name)
		}
	}
}

// changeMembers makes a change that etcd refuses until all members have been connected
// for 5 s. A request that comes without a leader may be lost, and its answer as well:
// then the error says that the change was already made.
func (s *site) changeMembers(what string, already error, change func(context.Context) error) {
	s.Helper()
	etcdtest.Eventually(s, "the member is "+what, func() bool {
		ctx, cancel := context.WithTimeout(s.Context(), 2*time.Second)
		defer cancel()
		err := change(ctx)
		return err == nil || errors.Is(err, already)
	})
}

func (s *site) id(m *cluster.Member) uint64 {
	status, err := s.client.Status(etcdtest.Soon(s), m.Endpoint)
	etcdtest.NoError(s, err)
	return status.Header.MemberId
}

// smallDisk is the size, in bytes, of a disk that etcd soon fills: its log takes
// twice 64 MB from the beginning. With space for one of these, etcd sometimes ended
// at its start: until its attempt at the other has failed, the disk is full.
const smallDisk = 160 << 20

// mayMount tries it: root of a container need not have the right to.
var mayMount = sync.OnceValue(func() error {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		return errors.New("it takes Linux, and root, to mount a small disk")
	}
	folder, err := os.MkdirTemp("", "disk-")
	if err != nil {
		return err
	}
	defer os.Remove(folder)
	if err := umountAtEnd(folder); err != nil {
		return err
	}
	if output, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder).CombinedOutput(); err != nil {
		return fmt.Errorf("mount a small disk: %w\n%s", err, output)
	}
	return exec.Command("umount", folder).Run()
})

// mountDisk returns a folder on a disk of its own, which goes with the test.
func mountDisk(t *testing.T, options string) string {
	folder := t.TempDir()
	etcdtest.NoError(t, umountAtEnd(folder))
	mount(t, folder, "-t", "tmpfs", "-o", options, "tmpfs")
	t.Cleanup(func() {
		if output, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, output)
		}
	})
	return folder
}

// umountAtEnd is for when the tests are killed.
func umountAtEnd(folder string) error {
	return etcdtest.AtEnd(fmt.Sprintf("mountpoint -q '%s' && umount '%[1]s'", folder))
}

func mount(t testing.TB, folder string, args ...string) {
	t.Helper()
	if output, err := exec.Command("mount", append(args, folder)...).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, output)
	}
}

// fillDisk writes to a member on a small disk until it dies. When it has space
// again, it has what it acknowledged.
func fillDisk(s *site) func() {
	m := s.etcd.Members[0]
	s.broken = true
	value := strings.Repeat("x", 1<<20)
	var acknowledged []string
	for m.PID() != 0 {
		if len(acknowledged) > smallDisk>>20 {
			s.Fatal("the disk does not get full")
		}
		key := fmt.Sprint("/elsewhere/", len(acknowledged))
		ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
		_, err := s.client.Put(ctx, key, value)
		cancel()
		if err == nil {
			acknowledged = append(acknowledged, key)
		} else if errors.Is(err, rpctypes.ErrNoSpace) {
			s.Fatalf("the database is full, and not the disk: %v", err)
		}
	}
	// Its log lies on the same disk, and need not hold its last words.
	probe := filepath.Join(s.etcd.Dir, "probe")
	if err := os.WriteFile(probe, []byte(value), 0o600); !errors.Is(err, syscall.ENOSPC) {
		s.Errorf("%s did not die of its full disk: %v", m.Name, err)
	}
	etcdtest.NoError(s, os.Remove(probe))
	return func() {
		mount(s, s.etcd.Dir, "-o", fmt.Sprint("remount,size=", 4*smallDisk))
		s.start(m)
		for _, key := range acknowledged {
			s.has(key)
		}
		s.Logf("%d acknowledged writes of 1 MiB looked for", len(acknowledged))
	}
}

// quota is the size of a database, in bytes, that is soon filled.
const quota = 4 << 20

func fillDatabase(s *site) func() {
	value := strings.Repeat("x", 1<<20)
	var err error
	for i := 0; err == nil; i++ {
		if i > 10*quota>>20 {
			s.Fatal("the database does not get full")
		}
		_, err = s.client.Put(etcdtest.Soon(s), "/elsewhere", value)
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		s.Fatal(err)
	}
	return nothing
}

// compactAgain takes away the past, again and again until it is mended: every
// revision but the newest is soon gone.
func compactAgain(s *site) func() {
	hurry := slowDown(s) // So that there is a compaction between any two calls.
	over := make(chan struct{})
	var compacting sync.WaitGroup
	compacting.Go(func() {
		for {
			put, err := s.client.Put(s.Context(), "/elsewhere", "")
			if err == nil {
				_, err = s.client.Compact(s.Context(), put.Header.Revision)
			}
			if err != nil {
				s.Error(err)
				return
			}
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return func() {
		close(over)
		compacting.Wait()
		hurry()
	}
}

func revokeAll(s *site) func() {
	leases, err := s.client.Leases(etcdtest.Soon(s))
	etcdtest.NoError(s, err)
	if len(leases.Leases) == 0 {
		s.Error("there are no leases to revoke")
	}
	for _, lease := range leases.Leases {
		if _, err := s.client.Revoke(etcdtest.Soon(s), lease.ID); err != nil {
			s.Fatal(err)
		}
	}
	return nothing
}

// pausePrograms pauses the programs, and ends their leases meanwhile, as a long
// pause would.
func pausePrograms(s *site) func() {
	for _, p := range s.programs {
		etcdtest.NoError(s, process.Pause(p))
	}
	revokeAll(s)
	return func() {
		for _, p := range s.programs {
			etcdtest.NoError(s, process.Resume(p))
		}
	}
}

// slowDown gives each call a third of a second to wait, at the least.
func slowDown(s *site) func() {
	for _, r := range s.network {
		r.Slow(150 * time.Millisecond)
	}
	return func() {
		for _, r := range s.network {
			r.Slow(0)
		}
	}
}

func cutEach(s *site) func() {
	for _, r := range s.network {
		r.Cut()
	}
	return nothing
}
