//go:build unix

package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/judge"
	"example.com/etcd-by-example/tests/internal/harness"
)

const (
	watchDir = "/cron/jobs/watch/"
	watchEnd = watchDir + "end"
)

// write is what a writer asked for, and what it was told.
type write struct {
	Keys     map[string]string // the values; empty ones are deletions
	Revision int64             // 0 when the answer never came
}

// judgeWrites checks the record itself against the writers' log: what was
// acknowledged happened as it was asked for, nothing happened that was not, and no
// value, each of which was asked for once, came twice.
func judgeWrites(t *testing.T, record *history.Record, writes []write) (violations []string) {
	t.Helper()
	wrong := func(format string, args ...any) { violations = append(violations, fmt.Sprintf(format, args...)) }
	asked := map[string]bool{}
	for _, w := range writes {
		moment, err := record.At(w.Revision)
		for key, value := range w.Keys {
			asked[value] = true
			if w.Revision == 0 {
				continue
			}
			var is history.KeyValue // The deletion of a missing key changes nothing.
			if err == nil && moment.Get(key) != nil {
				is = *moment.Get(key)
			}
			if err != nil || is.Value != value || value != "" && is.Mod != w.Revision {
				wrong("%s -> %q was acknowledged at %d, the record has %q @ %d, %v", key, value, w.Revision, is.Value, is.Mod, err)
			}
		}
	}
	changes, err := record.Changes(2, record.Last())
	etcdtest.NoError(t, err)
	theirs := judge.Prefix("/elsewhere/") // The faults write as well, where nobody else does.
	came := map[string]bool{}
	for _, c := range changes {
		if c.After == nil || theirs(c.Key) {
			continue
		}
		value := c.After.Value
		if !asked[value] {
			wrong("nobody wrote %q, which came at %d", value, c.Revision)
		}
		if came[value] {
			wrong("%q came again at %d", value, c.Revision)
		}
		came[value] = true
	}
	return violations
}

// followers is how many processes run lesson 06's follow.
const followers = 3

// TestWatchProof has processes follow the keys of lesson 06 by the lesson's own
// code, while leaders are killed, members restart, connections are cut and the
// history is compacted, and checks what they were told against a record of
// everything, and that against the writers' log.
func TestWatchProof(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	revisions, rounds := int64(1000), 5
	if etcdtest.Nightly() {
		revisions, rounds = 12_000, 30
	}
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	p := &watchProof{site: site{T: t, random: harness.Random(t), etcd: etcd, client: client}}
	p.recorder, p.record = recordEtcd(t, history.Source{Etcd: clientv3.Config{Endpoints: etcd.Endpoints()}})
	for range followers {
		p.launch()
	}
	keep(t, "json", func(w io.Writer) error { return json.NewEncoder(w).Encode(p.writes) })
	stop := repeat(t, 4, p.random, func(ctx context.Context, _ int, random *rand.Rand) { p.write(ctx, client, random) })
	faults := append(clusterFaults(), cutConnections,
		fault{"history compacted, unseen", nil, p.compact},
		fault{"no quorum, and all say so", nil, p.loseMajority})
	counts := map[string]int{}
	for i := range rounds {
		// The faults are spread over the run by what has happened, not by time.
		awaitRevision(t, p.recorder, p.record, revisions*int64(i+1)/int64(rounds+1))
		// Each fault comes before any comes again.
		f := faults[i%len(faults)]
		f.comesAndGoes(&p.site)
		counts[f.name]++
	}
	awaitRevision(t, p.recorder, p.record, revisions)
	stop()
	put, err := p.client.Put(etcdtest.Soon(t), watchEnd, "end")
	etcdtest.NoError(t, err)
	p.writes = append(p.writes, write{map[string]string{watchEnd: "end"}, put.Header.Revision})
	last := put.Header.Revision
	awaitRevision(t, p.recorder, p.record, last)

	for _, violation := range judgeWrites(t, p.record, p.writes) {
		t.Errorf("the record: %s", violation)
	}
	for i, f := range p.followers {
		answers := f.wait(t)
		presents, progress, told := 0, 0, 0
		for _, a := range answers {
			switch {
			case a.Present:
				presents++
			case len(a.Changes) == 0:
				progress++
			default:
				told += len(a.Changes)
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
		// Without these, nobody has looked at what they promise.
		if progress == 0 {
			t.Errorf("follower %d got no progress notification", i)
		}
		found, err := judge.NothingMissed(p.record, 1, last, judge.Prefix(watchDir), answers)
		etcdtest.NoError(t, err)
		for _, breach := range found[:min(10, len(found))] {
			t.Errorf("follower %d: %s", i, breach)
		}
	}
	t.Logf("%d revisions; %v", last, counts)
}

type watchProof struct {
	site
	recorder  *history.Recorder
	record    *history.Record
	followers []*follower

	mu     sync.Mutex
	writes []write
}

// follower is a process that runs the lesson's follow.
type follower struct {
	*harness.Running
	stdin       io.Closer
	answers     *os.File // of judge.Answer, as testdata/follow_test.go writes them
	network     []*harness.Relay
	compactions int // of what it had not seen
}

func (p *watchProof) launch() {
	f := &follower{answers: keepFile(p, "json"), network: p.newNetwork()}
	f.Running, f.stdin = harness.StartOverlaid(p, "06-watch", "TestFollow",
		[]string{"ETCDCTL_ENDPOINTS=" + endpointsOf(f.network), "FOLLOW_HISTORY=" + f.answers.Name()})
	p.followers = append(p.followers, f)
}

// wait returns what the follower was told, when it has seen the end.
func (f *follower) wait(t *testing.T) []judge.Answer {
	t.Helper()
	limit := time.AfterFunc(time.Minute, func() { f.stdin.Close() })
	defer limit.Stop()
	if got := f.Running.Wait(t); got.Status != 0 {
		t.Errorf("a follower: status %d\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	return decode[judge.Answer](t, f.answers)
}

// write puts and deletes keys under watchDir and beside it, one or several at a
// time.
func (p *watchProof) write(ctx context.Context, client *clientv3.Client, random *rand.Rand) {
	w := write{Keys: map[string]string{}}
	var ops []clientv3.Op
	beside := []string{"/cron/jobs/watch", "/cron/jobs/watch0", "/cron/jobs/watch-not/1", "/a"}
	for _, n := range random.Perm(24)[:1+random.IntN(5)] {
		key, value := fmt.Sprint(watchDir, n), fmt.Sprintf("%x", random.Uint64())
		if n < len(beside) {
			key = beside[n]
		}
		if random.IntN(4) == 0 {
			w.Keys[key] = ""
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			w.Keys[key] = value
			ops = append(ops, clientv3.OpPut(key, value))
		}
	}
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	answer, err := client.Txn(call).Then(ops...).Commit()
	if err == nil {
		w.Revision = answer.Header.Revision
	}
	p.mu.Lock()
	p.writes = append(p.writes, w)
	p.mu.Unlock()
	time.Sleep(time.Duration(random.IntN(int(4 * time.Millisecond))))
}

// compact takes away changes that one of the followers has not seen: its network is
// held still until that is mended.
func (p *watchProof) compact(*site) func() {
	f := p.followers[p.random.IntN(followers)]
	hold(f.network)
	awaitRevision(p, p.recorder, p.record, p.record.Last()+50)
	_, err := p.client.Compact(etcdtest.Soon(p), p.record.Last())
	etcdtest.NoError(p, err)
	f.compactions++
	return func() {
		for _, r := range f.network {
			r.Cut()
			r.Resume()
		}
	}
}

// loseMajority leaves one member alone until each follower says that it has no
// leader.
func (p *watchProof) loseMajority(s *site) func() {
	said := map[*follower]int{}
	for _, f := range p.followers {
		f.hears(p) // In one place it says only once that there is no leader.
		said[f] = f.leaderless()
	}
	mend := lostMajority.strike(s)
	for i, f := range p.followers {
		etcdtest.Eventually(p, fmt.Sprintf("follower %d sees no leader", i), func() bool {
			if f.HasEnded() {
				p.Fatalf("follower %d has ended:\n%s%s", i, f.Stdout, f.Stderr)
			}
			return f.leaderless() > said[f]
		})
	}
	return mend
}

// hears returns when the follower is told of a change.
func (f *follower) hears(t testing.TB) {
	t.Helper()
	heard := func() int {
		text, err := os.ReadFile(f.answers.Name())
		etcdtest.NoError(t, err)
		return bytes.Count(text, []byte(`"Changes":[`))
	}
	before := heard()
	etcdtest.Eventually(t, "a follower hears of a change", func() bool { return heard() > before })
}

// leaderless returns how often the follower has said that there is no leader.
func (f *follower) leaderless() int {
	return strings.Count(f.Stdout.String(), "no leader")
}

// TestWritesChecker gives the check of the record histories with one fault each.
func TestWritesChecker(t *testing.T) {
	put := func(key, value string, create, mod, version int64) history.Put {
		return history.Put{Key: key, Value: value, Create: create, Mod: mod, Version: version}
	}
	a2, b3, c3, a4 := put("a", "1", 2, 2, 1), put("b", "2", 3, 3, 1), put("c", "3", 3, 3, 1), put("a", "4", 2, 4, 2)
	d5, b6 := put("d", "5", 5, 5, 1), history.Put{Key: "b", Mod: 6}
	all := []history.Put{a2, b3, c3, a4, d5, b6}
	right := []write{{map[string]string{"a": "1"}, 2}, {map[string]string{"b": "2", "c": "3"}, 3},
		{map[string]string{"a": "4"}, 0}, {map[string]string{"d": "5"}, 5},
		{map[string]string{"b": ""}, 6}, {map[string]string{"a": "never"}, 0}}
	for _, c := range []struct {
		name, want string
		changes    []history.Put
		writes     []write
	}{
		{"right", "", all, right},
		{"not acknowledged, and done", "", all[:4], right[:3]},
		{"acknowledged, and not done", "was acknowledged", all[:3], append(right[:2:2], right[3])},
		{"done otherwise", "was acknowledged", all[:1], []write{{map[string]string{"a": "8"}, 2}, right[0]}},
		{"done before", "was acknowledged", all[:3], []write{{map[string]string{"a": "1"}, 3}, right[1]}},
		{"a deletion not done", "was acknowledged", all[:1], []write{{map[string]string{"a": ""}, 2}, right[0]}},
		{"done twice", "again", []history.Put{a2, put("a", "1", 2, 3, 2)}, right[:1]},
		{"not asked for", "nobody wrote", all, right[1:]},
	} {
		record := history.New(history.Limits{}, 1, nil, time.Now())
		etcdtest.NoError(t, record.Append(c.changes, time.Now()))
		found := strings.Join(judgeWrites(t, record, c.writes), "; ")
		if (c.want == "") != (found == "") || !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
}
