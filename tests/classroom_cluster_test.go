package tests

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestMemberKeepsItsData ends a member in both ways and starts it again.
func TestMemberKeepsItsData(t *testing.T) {
	t.Parallel()
	member := etcdtest.Etcd(t, cluster.Config{}).Members[0]
	client := etcdtest.Connect(t, member.Endpoint)
	put(t, client, "kept", "yes")
	for name, end := range map[string]func() error{
		"Stop": member.Stop, "Kill": member.Kill,
	} {
		before := member.PID()
		etcdtest.NoError(t, end())
		if member.PID() != 0 {
			t.Errorf("after %s it runs as %d", name, member.PID())
		}
		if err := end(); err != nil {
			t.Errorf("%s of a member that does not run: %v", name, err)
		}
		if err := member.Pause(); err == nil {
			t.Errorf("after %s it can be paused", name)
		}
		etcdtest.NoError(t, member.Start(etcdtest.Soon(t)))
		if member.PID() == 0 || member.PID() == before {
			t.Errorf("after %s and Start: process %d, before %d", name, member.PID(), before)
		}
		if get, err := client.Get(etcdtest.Soon(t), "kept"); err != nil || get.Count != 1 {
			t.Errorf("after %s and Start: %v, %v", name, get, err)
		}
	}
	if err := member.Start(etcdtest.Soon(t)); err == nil {
		t.Error("a member that runs can be started")
	}
}

// TestMemberPauses pauses a member: its port still accepts, but nothing answers
// until it is resumed.
func TestMemberPauses(t *testing.T) {
	if runtime.GOOS == "windows" {
		etcdtest.Skip(t, "Windows cannot pause a process")
	}
	t.Parallel()
	member := etcdtest.Etcd(t, cluster.Config{}).Members[0]
	client := etcdtest.Connect(t, member.Endpoint)
	etcdtest.NoError(t, member.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Get(ctx, "a"); err == nil {
		t.Error("a paused member answers")
	}
	etcdtest.NoError(t, member.Resume())
	if _, err := client.Get(etcdtest.Soon(t), "a"); err != nil {
		t.Errorf("after Resume: %v", err)
	}
}

// TestStartFails checks that a failed start says why and leaves nothing.
func TestStartFails(t *testing.T) {
	etcdtest.Reserve(t, 3)
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	t.Run("a setting that etcd refuses", func(t *testing.T) {
		_, err := cluster.Start(etcdtest.Soon(t), cluster.Config{Args: []string{"--election-timeout=1"}})
		etcdtest.Refused(t, err, "should be at least as 5 times")
		harness.NothingLeft(t, temporary)
	})
	t.Run("no time", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := cluster.Start(ctx, cluster.Config{Members: 3})
		etcdtest.Refused(t, err, "deadline exceeded")
		harness.NothingLeft(t, temporary)
	})
	t.Run("no time, and data to be kept", func(t *testing.T) {
		kept := filepath.Join(t.TempDir(), "kept")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			// Three members do not agree on a leader so soon.
			for ctx.Err() == nil {
				if _, err := os.Stat(filepath.Join(kept, "etcd2", "member")); err == nil {
					cancel()
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if _, err := cluster.Start(ctx, cluster.Config{Members: 3, Dir: kept}); err == nil {
			t.Fatal("it has started")
		}
		// What some of three have would be refused the next time.
		if left, err := filepath.Glob(filepath.Join(kept, "*", "member")); err != nil || len(left) != 0 {
			t.Errorf("left are %q, %v", left, err)
		}
	})
	t.Run("a user's variables are not etcd's flags", func(t *testing.T) {
		t.Setenv("ETCD_DATA_DIR", temporary)
		t.Setenv("ETCD_NAME", "mine")
		etcdtest.Etcd(t, cluster.Config{})
		if _, err := os.Stat(temporary + "/member"); err == nil {
			t.Error("etcd took ETCD_DATA_DIR")
		}
	})
	t.Run("the variable that lets etcd run on any processor", func(t *testing.T) {
		t.Setenv("ETCD_UNSUPPORTED_ARCH", "riscv64")
		log, err := os.ReadFile(etcdtest.Etcd(t, cluster.Config{}).Members[0].Log())
		etcdtest.NoError(t, err)
		if !strings.Contains(string(log), "ETCD_UNSUPPORTED_ARCH") {
			t.Error("etcd does not tell of ETCD_UNSUPPORTED_ARCH")
		}
	})
	t.Run("a processor on which etcd wants that", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			etcdtest.Skip(t, "Windows has no shell for it")
		}
		refuses := filepath.Join(t.TempDir(), "etcd")
		etcdtest.NoError(t, os.WriteFile(refuses, []byte("#!/bin/sh\necho Refusing to run etcd on unsupported architecture "+
			"since ETCD_UNSUPPORTED_ARCH is not set\nexit 1\n"), 0o700))
		_, err := cluster.Start(etcdtest.Soon(t), cluster.Config{Program: refuses})
		want := "start etcd1: etcd is not tested on " + runtime.GOARCH + ": to run it all the same, set ETCD_UNSUPPORTED_ARCH=" + runtime.GOARCH
		if err == nil || err.Error() != want {
			t.Errorf("the error is %v\nwant %s", err, want)
		}
	})
}

// TestReset empties stores while their members are in all states that a learner can
// bring them into.
func TestReset(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		members int
		kept    bool
		before  func(t *testing.T, m []*cluster.Member)
	}{
		{"one runs", 1, false, func(*testing.T, []*cluster.Member) {}},
		{"one was stopped", 1, true, func(t *testing.T, m []*cluster.Member) {
			etcdtest.NoError(t, m[0].Stop())
		}},
		{"three: killed, paused, running", 3, true, func(t *testing.T, m []*cluster.Member) {
			etcdtest.NoError(t, m[0].Kill())
			if runtime.GOOS != "windows" {
				etcdtest.NoError(t, m[1].Pause())
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := cluster.Config{Members: c.members}
			if c.kept {
				config.Dir = filepath.Join(t.TempDir(), "kept")
			}
			etcd := etcdtest.Etcd(t, config)
			client := etcdtest.Connect(t, etcd.Endpoints()...)
			for range 3 {
				put(t, client, "old", "value")
			}
			_, err := client.Grant(etcdtest.Soon(t), 600)
			etcdtest.NoError(t, err)
			_, err = client.UserAdd(etcdtest.Soon(t), "ann", "secret")
			etcdtest.NoError(t, err)
			c.before(t, etcd.Members)
			pids := make(map[int]bool)
			for _, m := range etcd.Members {
				pids[m.PID()] = true
			}
			emptied := etcd.Emptied()
			etcdtest.NoError(t, etcd.Reset(etcdtest.Soon(t)))
			select {
			case <-emptied:
			default:
				t.Error("nobody was told that the store was emptied")
			}
			for _, m := range etcd.Members {
				if m.PID() == 0 || pids[m.PID()] || m.Paused() {
					t.Errorf("%s is process %d, paused %t; before: %v", m.Name, m.PID(), m.Paused(), pids)
				}
				isNew(t, m.Endpoint)
			}
			// The new store is kept as the old one was.
			client = etcdtest.Connect(t, etcd.Endpoints()...)
			put(t, client, "new", "value")
			etcdtest.NoError(t, etcd.Members[0].Restart(etcdtest.Soon(t)))
			if get, err := client.Get(etcdtest.Soon(t), "new"); err != nil || get.Count != 1 {
				t.Errorf("after a restart: %v, %v", get, err)
			}
		})
	}
}

// isNew fails the test unless the store at endpoint is one that nobody has used.
func isNew(t testing.TB, endpoint string) {
	t.Helper()
	client := etcdtest.Connect(t, endpoint)
	get, err := client.Get(etcdtest.Soon(t), "old")
	if err != nil || get.Count != 0 || get.Header.Revision != 1 {
		t.Errorf("%s has the key %v: %v", endpoint, get, err)
	}
	if leases, err := client.Leases(etcdtest.Soon(t)); err != nil || len(leases.Leases) != 0 {
		t.Errorf("%s has the leases %v: %v", endpoint, leases, err)
	}
	if users, err := client.UserList(etcdtest.Soon(t)); err != nil || len(users.Users) != 0 {
		t.Errorf("%s has the users %v: %v", endpoint, users, err)
	}
}

// TestResetTakesTurns resets a store while somebody acts on its members.
func TestResetTakesTurns(t *testing.T) {
	etcdtest.NeedsLong(t, "it resets an etcd again and again")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	put(t, client, "kept", "yes")
	pid := etcd.Members[0].PID()
	err := etcd.Exclusively(etcdtest.Soon(t), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return etcd.Reset(ctx)
	})
	etcdtest.Refused(t, err, "members are being stopped or started")
	if get, err := client.Get(etcdtest.Soon(t), "kept"); err != nil || get.Count != 1 || etcd.Members[0].PID() != pid {
		t.Errorf("it did something all the same: %v, %v", get, err)
	}

	var acting sync.WaitGroup
	for range 3 {
		acting.Go(func() {
			if err := etcd.Reset(etcdtest.Soon(t)); err != nil {
				t.Error(err)
			}
		})
		acting.Go(func() {
			err := etcd.Exclusively(etcdtest.Soon(t), func() error { return etcd.Restart(etcdtest.Soon(t), etcd.Members) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	acting.Wait()
	isNew(t, etcd.Endpoints()[0])
}

// TestRestartInTurn restarts members that have ended: the second waits for the
// first, unless both are needed for a majority.
func TestRestartInTurn(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	for _, m := range etcd.Members[1:] {
		etcdtest.NoError(t, m.Kill())
	}
	// The first of the two cannot start while its port is taken.
	listener, err := net.Listen("tcp", etcd.Members[1].Endpoint)
	etcdtest.NoError(t, err)
	err = etcd.Restart(etcdtest.Soon(t), etcd.Members[1:])
	etcdtest.NoError(t, listener.Close())
	etcdtest.Refused(t, err, "start etcd2")
	if pid := etcd.Members[2].PID(); pid != 0 {
		t.Errorf("the second did not wait: process %d", pid)
	}
	etcdtest.NoError(t, etcd.Restart(etcdtest.Soon(t), etcd.Members[1:]))

	for _, m := range etcd.Members {
		etcdtest.NoError(t, m.Kill())
	}
	etcdtest.NoError(t, etcd.Restart(etcdtest.Soon(t), etcd.Members))
	put(t, etcdtest.Connect(t, etcd.Endpoints()...), "a", "b")
}

// TestMemberIsCutOff cuts the leader of three off from the others: these elect
// another one and go on, and whoever asks the old one soon hears that it has no
// leader. When it is back, all have the same leader and the same revision.
func TestMemberIsCutOff(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	etcdtest.Reserve(t, 4)
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	for round := range 2 {
		old := harness.Leader(t, etcd)
		others := slices.DeleteFunc(slices.Clone(etcd.Members), func(m *cluster.Member) bool { return m == old })
		alone, majority := etcdtest.Connect(t, old.Endpoint), etcdtest.Connect(t, others[0].Endpoint, others[1].Endpoint)
		before := put(t, alone, "a", "before")

		etcdtest.NoError(t, old.Cut())
		etcdtest.NoError(t, old.Cut()) // Once more changes nothing.
		if !old.CutOff() || others[0].CutOff() {
			t.Error("another one is cut off")
		}
		etcdtest.Eventually(t, "the others have a leader", func() bool {
			found, _ := harness.Leading(t.Context(), majority, &cluster.Cluster{Members: others})
			return found != nil
		})
		harness.AwaitNoLeader(t, old)
		after := put(t, majority, "a", "after")
		if _, err := alone.Get(clientv3.WithRequireLeader(etcdtest.Soon(t)), "a"); !errors.Is(err, rpctypes.ErrNoLeader) {
			t.Errorf("the one that is cut off answers a read: %v", err)
		}
		get, err := alone.Get(etcdtest.Soon(t), "a", clientv3.WithSerializable())
		if err != nil || get.Header.Revision != before {
			t.Errorf("the one that is cut off has %v, %v; want what was before, at revision %d",
				get, err, before)
		}

		for name, start := range map[string]func() error{
			"Restart":            func() error { return old.Restart(etcdtest.Soon(t)) },
			"Restart of several": func() error { return etcd.Restart(etcdtest.Soon(t), etcd.Members) },
		} {
			pid := old.PID()
			etcdtest.Refused(t, start(), "heal it first")
			if old.PID() != pid {
				t.Errorf("%s of one that is cut off: process %d, then %d", name, pid, old.PID())
			}
		}
		if round == 0 {
			etcdtest.NoError(t, old.Heal())
		} else {
			etcdtest.NoError(t, old.Kill())
			if err := old.Start(etcdtest.Soon(t)); err == nil || !old.CutOff() {
				t.Errorf("it starts, and is cut off: %t, %v", old.CutOff(), err)
			}
			etcdtest.NoError(t, old.Heal())
			etcdtest.NoError(t, old.Start(etcdtest.Soon(t)))
		}
		etcdtest.Eventually(t, "all have the same leader and the same revision", func() bool {
			leaders, revisions := map[uint64]bool{}, map[int64]bool{}
			for _, m := range etcd.Members {
				status, err := majority.Status(etcdtest.Soon(t), m.Endpoint)
				if err != nil {
					return false
				}
				leaders[status.Leader], revisions[status.Header.Revision] = true, true
			}
			return len(leaders) == 1 && !leaders[0] && len(revisions) == 1 && revisions[after]
		})
	}

	etcdtest.NoError(t, harness.Leader(t, etcd).Cut())
	etcdtest.NoError(t, etcd.Reset(etcdtest.Soon(t)))
	isNew(t, etcd.Endpoints()[0])
	for _, m := range etcd.Members {
		if m.CutOff() {
			t.Errorf("after a reset %s is cut off", m.Name)
		}
	}

	lone := etcdtest.Etcd(t, cluster.Config{}).Members[0]
	etcdtest.Refused(t, lone.Cut(), "there are no other members")
	etcdtest.Refused(t, lone.Heal(), "there are no other members")
}

// TestClusterLeavesNothing checks that what joins the members ends with them.
func TestClusterLeavesNothing(t *testing.T) {
	etcdtest.Reserve(t, 3)
	etcd, err := cluster.Start(etcdtest.Soon(t), cluster.Config{Members: 3})
	etcdtest.NoError(t, err)
	etcdtest.NoError(t, etcd.Members[0].Cut())
	const joins = "cluster.(*peers)"
	goroutines := func() string {
		var all strings.Builder
		etcdtest.NoError(t, pprof.Lookup("goroutine").WriteTo(&all, 2))
		return all.String()
	}
	if !strings.Contains(goroutines(), joins) {
		t.Errorf("nothing of %s runs while members do", joins)
	}
	etcdtest.NoError(t, etcd.Close())
	if left := goroutines(); strings.Contains(left, joins) {
		t.Errorf("%s runs after the members have ended:\n%s", joins, left)
	}
}

// TestStrangerOnItsPort has another program take a member's port just before the member
// starts, and answer there as an etcd does: that is no member of ours.
func TestStrangerOnItsPort(t *testing.T) {
	if runtime.GOOS == "windows" {
		etcdtest.Skip(t, "it needs a shell")
	}
	t.Parallel()
	etcdtest.Reserve(t, 1)
	dir := t.TempDir()
	program := filepath.Join(dir, "late-etcd")
	etcdtest.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\ncd '"+dir+"'\n"+
		"echo \"$@\" >new && mv new arguments\nuntil [ -e answered ]; do sleep 0.1; done\n"+
		"echo 'listen: address already in use'\nexit 1\n"), 0o700))
	stranger := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		// Only the next question, or the one after it, comes after the answer to this one.
		go os.WriteFile(filepath.Join(dir, "answered"), nil, 0o600)
	})}
	t.Cleanup(func() { stranger.Close() })
	go func() {
		var arguments []byte
		for arguments == nil && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
			arguments, _ = os.ReadFile(filepath.Join(dir, "arguments"))
		}
		address := regexp.MustCompile(`--listen-client-urls=http://(\S+)`).FindSubmatch(arguments)
		if address == nil {
			return
		}
		if listener, err := net.Listen("tcp", string(address[1])); err == nil {
			stranger.Serve(listener)
		}
	}()
	etcd, err := cluster.Start(etcdtest.Soon(t), cluster.Config{Program: program})
	if err == nil {
		etcd.Close()
		t.Fatal("it took a stranger for its member")
	}
	etcdtest.Refused(t, err, "address already in use")
}

// TestDataInUse starts members on data on which others run: that is said at once, until
// those have ended.
func TestDataInUse(t *testing.T) {
	if runtime.GOOS == "windows" {
		etcdtest.Skip(t, "nobody can read there who has locked the data")
	}
	t.Parallel()
	etcdtest.Reserve(t, 2)
	data, port := filepath.Join(t.TempDir(), "kept"), harness.FreePorts(t, 2)
	first, err := cluster.Start(etcdtest.Soon(t), cluster.Config{Dir: data, Port: port})
	etcdtest.NoError(t, err)
	got := harness.Run(t, "", nil, "classroom", "-board", "off", "-port", strconv.Itoa(harness.FreePorts(t, 2)), "-data", data)
	want := "classroom: " + data + " is in use by the etcd at port " + strconv.Itoa(port) + " of "
	if got.Status != 1 || !strings.HasPrefix(got.Stderr, want) ||
		!strings.HasSuffix(got.Stderr, ", process "+strconv.Itoa(os.Getpid())+": stop that, or give another folder\n") {
		t.Errorf("status %d\n%swant %s", got.Status, got.Stderr, want)
	}
	etcdtest.NoError(t, first.Close())
	second, err := cluster.Start(etcdtest.Soon(t), cluster.Config{Dir: data})
	etcdtest.NoError(t, err)
	etcdtest.NoError(t, second.Close())
}
