//go:build unix

package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
)

const (
	watchDir = "/cron/jobs/watch/"
	watchEnd = watchDir + "end"
)

// watched is what lesson 06 handed over at a time, as testdata/follow_test.go
// writes it.
type watched struct {
	Present  bool // it is the present, and not a response of the watch
	Progress bool // it is a response that tells nothing but a revision
	Revision int64
	Changes  []modification
}

// modification is a key as a change left it.
type modification struct {
	Key, Value           string
	Deleted              bool
	Create, Mod, Version int64
	Prev                 *string // the value before, where it was told
}

// truth is what changed in etcd, in order, as a second watch saw it.
type truth []modification

// at returns what is under watchDir at a revision.
func (all truth) at(revision int64) map[string]modification {
	keys := map[string]modification{}
	for _, m := range all {
		switch {
		case m.Mod > revision:
			return keys
		case !strings.HasPrefix(m.Key, watchDir):
		case m.Deleted:
			delete(keys, m.Key)
		default:
			keys[m.Key] = m
		}
	}
	return keys
}

// judgeWatch checks what lesson 06 handed over against the truth. It returns
// what is wrong, beginning with the name of the property that is violated: those
// of etcd's tests/robustness/validate/watch.go.
func judgeWatch(all truth, entries []watched) (violations []string) {
	wrong := func(property, format string, args ...any) {
		violations = append(violations, property+": "+fmt.Sprintf(format, args...))
	}
	var (
		expected []modification // what is still to come, by the truth
		keys     map[string]modification
		last     int64 // the revision of the last change
		promised int64 // no change at or below this may come any more
		seen     map[string]bool
		// of which something was told
		revisions = map[int64]bool{}
	)
	for i, w := range entries {
		switch {
		case w.Present:
			keys, last, promised, seen = all.at(w.Revision), w.Revision, w.Revision, map[string]bool{}
			told := map[string]modification{}
			for _, m := range w.Changes {
				told[m.Key] = m
			}
			if !maps.Equal(told, keys) {
				wrong("Present", "entry %d shows %v at revision %d, the truth is %v", i, told, w.Revision, keys)
			}
			expected = nil
			for _, m := range all {
				if m.Mod > w.Revision && strings.HasPrefix(m.Key, watchDir) {
					expected = append(expected, m)
				}
			}
			continue
		case w.Progress:
			if len(expected) > 0 && expected[0].Mod <= w.Revision {
				wrong("Bookmarkable", "entry %d promises that all up to %d was told, and %s @ %d was not",
					i, w.Revision, expected[0].Key, expected[0].Mod)
			}
			promised = max(promised, w.Revision)
			continue
		}
		for j, m := range w.Changes {
			if !strings.HasPrefix(m.Key, watchDir) {
				wrong("Filtered", "entry %d tells of %s", i, m.Key)
				continue
			}
			name := fmt.Sprint(m.Key, " @ ", m.Mod)
			if seen[name] {
				wrong("Unique", "entry %d tells of %s again", i, name)
				continue
			}
			seen[name] = true
			if m.Mod < last {
				wrong("Ordered", "entry %d tells of %s after revision %d", i, name, last)
				continue
			}
			if m.Mod == last && j == 0 {
				wrong("Atomic", "entry %d tells of %s, others of that revision came before", i, name)
			}
			if m.Mod <= promised {
				wrong("Bookmarkable", "entry %d tells of %s, all up to %d was told", i, name, promised)
			}
			last, revisions[m.Mod] = m.Mod, true
			at := slices.IndexFunc(expected, func(e modification) bool {
				return e.Key == m.Key && e.Mod == m.Mod
			})
			if at < 0 {
				wrong("Reliable", "entry %d tells of %s, which did not happen", i, name)
				continue
			}
			for _, missed := range expected[:at] {
				switch {
				case missed.Mod == m.Mod: // The order within a revision is free.
				case len(seen) == 1:
					wrong("Resumable", "after the present, %s @ %d is left out", missed.Key, missed.Mod)
				case revisions[missed.Mod]:
					wrong("Atomic", "before entry %d, %s is left out of revision %d", i, missed.Key, missed.Mod)
				default:
					wrong("Reliable", "before entry %d, %s @ %d is left out", i, missed.Key, missed.Mod)
				}
			}
			told, before := m, keys[m.Key].Value
			told.Prev = nil
			if told != expected[at] {
				wrong("Reliable", "entry %d tells of %v, the truth is %v", i, m, expected[at])
			}
			if _, existed := keys[m.Key]; m.Prev != nil && (!existed || *m.Prev != before) {
				wrong("Reliable", "entry %d says that %s was %q, the truth is %q", i, name, *m.Prev, before)
			}
			if m.Deleted {
				delete(keys, m.Key)
			} else {
				keys[m.Key] = m
			}
			expected = slices.Concat(slices.DeleteFunc(slices.Clone(expected[:at]),
				func(e modification) bool { return e.Mod < m.Mod }), expected[at+1:])
		}
		if len(expected) > 0 && expected[0].Mod == last {
			wrong("Atomic", "entry %d tells of revision %d without %s", i, last, expected[0].Key)
		}
	}
	if len(expected) > 0 {
		wrong("Reliable", "the end is missing, from %s @ %d on", expected[0].Key, expected[0].Mod)
	}
	return violations
}

// write is what a writer asked for, and what it was told.
type write struct {
	Keys     map[string]string // the values; empty ones are deletions
	Revision int64             // 0 when the answer never came
}

// judgeTruth checks the truth itself against the writers' log: what was
// acknowledged happened as it was asked for, and nothing happened that was not.
// Each value is written once.
func judgeTruth(all truth, writes []write) (violations []string) {
	revisions := map[int64]map[string]string{}
	values := map[string]int64{}
	for _, m := range all {
		if revisions[m.Mod] == nil {
			revisions[m.Mod] = map[string]string{}
		}
		revisions[m.Mod][m.Key] = m.Value
		if !m.Deleted {
			if before := values[m.Value]; before != 0 && before != m.Mod {
				violations = append(violations, fmt.Sprintf("%q was written at %d and at %d", m.Value, before, m.Mod))
			}
			values[m.Value] = m.Mod
		}
	}
	asked := map[string]bool{}
	for _, w := range writes {
		happened := revisions[w.Revision]
		for key, value := range w.Keys {
			asked[value] = true
			// The deletion of a missing key changes nothing.
			if told, changed := happened[key]; w.Revision != 0 && (told != value || !changed && value != "") {
				violations = append(violations, fmt.Sprintf("%s -> %q was acknowledged at %d, the truth is %q",
					key, value, w.Revision, told))
			}
		}
	}
	for value, revision := range values {
		if !asked[value] {
			violations = append(violations, fmt.Sprintf("nobody wrote %q, which came at %d", value, revision))
		}
	}
	return violations
}

// followers is how many processes run lesson 06's follow.
const followers = 3

// TestWatchProof has processes follow the keys of lesson 06 by the lesson's own
// code, while leaders are killed, members restart, connections are cut and the
// history is compacted, and checks what they were told against a second watch of
// everything and against the writers' log.
func TestWatchProof(t *testing.T) {
	parallel(t)
	events, rounds := int64(2000), 5
	if *long {
		events, rounds = 25_000, 25
	}
	p := &watchProof{T: t, random: random(t), etcd: startEtcd(t, cluster.Config{Members: 3})}
	p.client = connect(t, p.etcd.Endpoints()...)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()

	var watching sync.WaitGroup
	reference := newRecord(t)
	watching.Go(func() { p.watch(ctx, reference) })
	binary := overlaid(t, "06-watch")
	for range followers {
		p.launch(binary)
	}
	writing, end := context.WithCancel(ctx)
	var writers sync.WaitGroup
	log := newRecord(t)
	for n := range 4 {
		random := rand.New(rand.NewPCG(p.random.Uint64(), 0))
		writers.Go(func() { p.write(writing, n, random, log) })
	}
	faults := map[string]int{}
	for i := range rounds {
		// The faults are spread over the run by what has happened, not by time.
		due := events * int64(i+1) / int64(rounds+1)
		eventually(t, 2*time.Minute, "the writers go on", func() bool { return p.under.Load() >= due })
		// Each fault comes before any comes again.
		switch name := []string{"compactions", "killed leaders", "cut connections", "restarted members", "lost majorities"}[i%5]; name {
		case "compactions":
			p.compact(faults[name] % followers)
			faults[name]++
		case "killed leaders":
			if err := killLeader(t, p.etcd).Start(soon(t)); err != nil {
				t.Fatal(err)
			}
			faults[name]++
		case "cut connections":
			for _, f := range p.followers {
				for _, r := range f.network {
					r.cut()
				}
			}
			faults[name] += followers
		case "restarted members":
			if err := p.etcd.Members[p.random.IntN(3)].Restart(soon(t)); err != nil {
				t.Fatal(err)
			}
			faults[name]++
		case "lost majorities":
			p.loseMajority()
			faults[name]++
		}
	}
	eventually(t, 2*time.Minute, "the writers are done", func() bool { return p.under.Load() >= events })
	end()
	writers.Wait()
	put, err := p.client.Put(soon(t), watchEnd, "end")
	if err != nil {
		t.Fatal(err)
	}
	p.writes = append(p.writes, write{map[string]string{watchEnd: "end"}, put.Header.Revision})
	watching.Wait()

	for _, violation := range judgeTruth(p.truth, p.writes) {
		t.Errorf("the second watch: %s", violation)
	}
	for i, f := range p.followers {
		entries := f.wait(t)
		presents, progress, told := 0, 0, 0
		for _, w := range entries {
			switch {
			case w.Present:
				presents++
			case w.Progress:
				progress++
			default:
				told += len(w.Changes)
			}
		}
		t.Logf("follower %d was told of %d changes and %d times of the present, %d progress notifications; it saw no leader %d times",
			i, told, presents, progress, f.leaderless())
		if presents > 1+f.compactions {
			t.Errorf("follower %d got the present %d times, after %d compactions: it does not resume",
				i, presents, f.compactions)
		}
		if f.compactions > 0 && presents == 1 {
			t.Errorf("follower %d did not notice its %d compactions", i, f.compactions)
		}
		violations := judgeWatch(p.truth, entries)
		for _, violation := range violations[:min(10, len(violations))] {
			t.Errorf("follower %d: %s", i, violation)
		}
	}
	t.Logf("%d changes in etcd, %d of them under %s; %v", len(p.truth), p.under.Load(), watchDir, faults)
}

type watchProof struct {
	*testing.T
	random    *rand.Rand
	etcd      *cluster.Cluster
	client    *clientv3.Client
	followers []*follower

	under  atomic.Int64 // changes under watchDir, as the second watch sees them
	newest atomic.Int64 // its last revision
	truth  truth

	mu     sync.Mutex
	writes []write
}

// follower is a process that runs the lesson's follow.
type follower struct {
	cmd         *exec.Cmd
	stdin       io.Closer
	history     *record
	network     []*relay
	compactions int // of what it had not seen
}

func (p *watchProof) launch(binary string) {
	f := &follower{history: newRecord(p)}
	var endpoints []string
	for _, m := range p.etcd.Members {
		r := newRelay(p, m.Endpoint)
		f.network = append(f.network, r)
		endpoints = append(endpoints, r.Address)
	}
	f.cmd = exec.Command(binary, "-test.run", "^TestFollow$", "-test.timeout", "20m")
	f.cmd.Env = plainEnv("ETCDCTL_ENDPOINTS="+strings.Join(endpoints, ","),
		"FOLLOW_HISTORY="+f.history.file.Name())
	printed := newOutput()
	f.cmd.Stdout, f.cmd.Stderr = printed, printed
	stdin, err := f.cmd.StdinPipe()
	if err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		p.Fatal(err)
	}
	f.stdin = stdin
	p.Cleanup(func() { f.cmd.Process.Kill() })
	p.followers = append(p.followers, f)
}

// wait returns what the follower was told, when it has seen the end.
func (f *follower) wait(t *testing.T) (entries []watched) {
	t.Helper()
	limit := time.AfterFunc(time.Minute, func() { f.stdin.Close() })
	defer limit.Stop()
	if err := f.cmd.Wait(); err != nil {
		t.Errorf("a follower: %v\n%s", err, f.cmd.Stdout)
	}
	text, err := os.ReadFile(f.history.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var w watched
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, w)
	}
	return entries
}

// watch collects the truth, until the end.
func (p *watchProof) watch(ctx context.Context, history *record) {
	for response := range p.client.Watch(ctx, "", clientv3.WithFromKey(), clientv3.WithRev(1)) {
		if err := response.Err(); err != nil {
			p.Errorf("the second watch: %v", err)
			return
		}
		for _, e := range response.Events {
			m := modification{
				Key: string(e.Kv.Key), Value: string(e.Kv.Value), Deleted: e.Type == mvccpb.Event_DELETE,
				Create: e.Kv.CreateRevision, Mod: e.Kv.ModRevision, Version: e.Kv.Version,
			}
			history.add(m)
			p.truth = append(p.truth, m)
			if strings.HasPrefix(m.Key, watchDir) {
				p.under.Add(1)
			}
			if m.Key == watchEnd {
				return
			}
		}
		p.newest.Store(p.truth[len(p.truth)-1].Mod)
	}
	p.Error("the second watch ended early")
}

// write puts and deletes keys under watchDir and beside it, one or several at a
// time.
func (p *watchProof) write(ctx context.Context, n int, random *rand.Rand, log *record) {
	for i := 0; ctx.Err() == nil; i++ {
		w := write{Keys: map[string]string{}}
		var ops []clientv3.Op
		for range 1 + random.IntN(5) {
			key := fmt.Sprint(watchDir, random.IntN(20))
			if random.IntN(5) == 0 {
				key = []string{"/cron/jobs/watch", "/cron/jobs/watch0", "/cron/jobs/watch-not/1", "/a"}[random.IntN(4)]
			}
			if _, twice := w.Keys[key]; twice {
				continue
			}
			if random.IntN(4) == 0 {
				w.Keys[key] = ""
				ops = append(ops, clientv3.OpDelete(key))
				continue
			}
			w.Keys[key] = fmt.Sprintf("%d.%d %s", n, i, key)
			ops = append(ops, clientv3.OpPut(key, w.Keys[key]))
		}
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		answer, err := p.client.Txn(call).Then(ops...).Commit()
		cancel()
		if err == nil {
			w.Revision = answer.Header.Revision
		}
		log.add(w)
		p.mu.Lock()
		p.writes = append(p.writes, w)
		p.mu.Unlock()
		time.Sleep(time.Duration(random.IntN(int(4 * time.Millisecond))))
	}
}

// compact takes away changes that a follower has not seen, while its network is
// held still.
func (p *watchProof) compact(i int) {
	f := p.followers[i]
	hold(f.network)
	from := p.newest.Load()
	eventually(p, time.Minute, "there are changes to compact", func() bool {
		return p.newest.Load() > from+50
	})
	if _, err := p.client.Compact(soon(p), p.newest.Load()); err != nil {
		p.Fatal(err)
	}
	for _, r := range f.network {
		r.cut()
		r.resume()
	}
	f.compactions++
}

// loseMajority leaves one member alone until each follower says that it has no
// leader.
func (p *watchProof) loseMajority() {
	said := map[*follower]int{}
	for _, f := range p.followers {
		said[f] = f.leaderless()
	}
	var killed []*cluster.Member
	alone := p.random.IntN(len(p.etcd.Members))
	for i, m := range p.etcd.Members {
		if i == alone {
			continue
		}
		if err := m.Kill(); err != nil {
			p.Fatal(err)
		}
		killed = append(killed, m)
	}
	for i, f := range p.followers {
		eventually(p, time.Minute, fmt.Sprintf("follower %d sees no leader", i), func() bool {
			return f.leaderless() > said[f]
		})
	}
	for _, m := range killed {
		if err := m.Start(soon(p)); err != nil {
			p.Fatal(err)
		}
	}
}

// leaderless returns how often the follower has said that there is no leader.
func (f *follower) leaderless() int {
	return strings.Count(fmt.Sprint(f.cmd.Stdout), "no leader")
}

// TestWatchChecker gives the checks histories with one fault each.
func TestWatchChecker(t *testing.T) {
	put := func(key, value string, create, mod, version int64) modification {
		return modification{Key: watchDir + key, Value: value, Create: create, Mod: mod, Version: version}
	}
	a2, b3, c3, a4 := put("a", "1", 2, 2, 1), put("b", "2", 3, 3, 1), put("c", "3", 3, 3, 1), put("a", "4", 2, 4, 2)
	beside := modification{Key: "/beside", Value: "5", Create: 5, Mod: 5, Version: 1}
	gone := modification{Key: watchDir + "b", Deleted: true, Mod: 6}
	all := truth{a2, b3, c3, a4, beside, gone}
	with := func(m modification, prev string) modification {
		m.Prev = &prev
		return m
	}
	told := func(changes ...modification) watched {
		return watched{Revision: changes[len(changes)-1].Mod, Changes: changes}
	}
	progress := func(revision int64) watched { return watched{Progress: true, Revision: revision} }
	empty := watched{Present: true, Revision: 1}
	at3 := watched{Present: true, Revision: 3, Changes: []modification{a2, b3, c3}}
	for _, c := range []struct {
		name, want string
		entries    []watched
	}{
		{"right", "", []watched{empty, told(a2), progress(2), told(b3, c3), told(a4), told(with(gone, "2"))}},
		{"another order in a revision", "", []watched{empty, told(a2), told(c3, b3, with(a4, "1"), gone)}},
		{"compacted", "", []watched{empty, told(a2), at3, told(a4), progress(5), told(gone)}},
		{"a neighbour", "Filtered", []watched{at3, told(a4), told(beside), told(gone)}},
		{"the wrong order", "Ordered", []watched{empty, told(a2), told(a4), told(b3, c3), told(gone)}},
		{"twice", "Unique", []watched{at3, told(a4), told(a4), told(gone)}},
		{"a revision in two", "Atomic", []watched{empty, told(a2), told(b3), told(c3), told(a4), told(gone)}},
		{"half a revision", "Atomic", []watched{empty, told(a2), told(b3, a4), told(gone)}},
		{"promised too much", "Bookmarkable", []watched{at3, progress(4), told(a4), told(gone)}},
		{"the first missing", "Resumable", []watched{at3, told(gone)}},
		{"one missing", "Reliable", []watched{empty, told(a2), told(a4), told(gone)}},
		{"the last missing", "Reliable", []watched{at3, told(a4)}},
		{"nothing after the present", "Reliable", []watched{at3}},
		{"invented", "Reliable", []watched{at3, told(a4), told(put("d", "9", 5, 5, 1)), told(gone)}},
		{"another value", "Reliable", []watched{at3, told(put("a", "9", 2, 4, 2)), told(gone)}},
		{"another version", "Reliable", []watched{at3, told(put("a", "4", 2, 4, 3)), told(gone)}},
		{"another value before", "Reliable", []watched{at3, told(with(a4, "9")), told(gone)}},
		{"another present", "Present", []watched{{Present: true, Revision: 3, Changes: at3.Changes[:2]}, told(a4), told(gone)}},
	} {
		found := strings.Join(judgeWatch(all, c.entries), "; ")
		if (c.want == "") != (found == "") || !strings.Contains(found, c.want+": ") && c.want != "" {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
	right := []write{{map[string]string{a2.Key: "1"}, 2}, {map[string]string{b3.Key: "2", c3.Key: "3"}, 3},
		{map[string]string{a4.Key: "4"}, 0}, {map[string]string{beside.Key: "5"}, 5},
		{map[string]string{gone.Key: ""}, 6}, {map[string]string{a2.Key: "never"}, 0}}
	for _, c := range []struct {
		name, want string
		truth      truth
		writes     []write
	}{
		{"right", "", all, right},
		{"not acknowledged, and done", "", all[:4], right[:3]},
		{"acknowledged, and not done", "was acknowledged", all[:3], append(right[:0:0], right[3])},
		{"done otherwise", "was acknowledged", truth{put("a", "1", 2, 2, 1)}, []write{{map[string]string{a2.Key: "8"}, 2}, right[0]}},
		{"a deletion not done", "was acknowledged", truth{put("a", "1", 2, 2, 1)}, []write{{map[string]string{a2.Key: ""}, 2}, right[0]}},
		{"done twice", "and at", truth{a2, put("a", "1", 2, 3, 2)}, right[:1]},
		{"not asked for", "nobody wrote", all, right[1:]},
	} {
		found := strings.Join(judgeTruth(c.truth, c.writes), "; ")
		if (c.want == "") != (found == "") || !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
}
