package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

const (
	counterKey  = "/cron/jobs/counter"
	registerKey = "/cron/jobs/register"
)

// call is one call to etcd and what came of it. Every value that is written is
// written by one call only, so that who reads a value knows the call.
type call struct {
	Client int
	Key    string
	Kind   kind

	Seen  int64  `json:",omitempty"` // swap: the revision that the key must have
	Write string `json:",omitempty"` // put, swap: the value to write

	// Unknown means that the call ended with an error: it may have happened, or
	// happen later. A get with an error says nothing and is in no history.
	Unknown bool `json:",omitempty"`
	Refused bool `json:",omitempty"` // swap: the key did not have that revision

	// What the key holds after the call, 0 for no key. A put, and a swap that is
	// not refused, know the revision that they made.
	Value    string
	Revision int64

	Called, Returned time.Duration // since the start of the run
}

type kind string

const (
	aGet  kind = "get"
	aPut  kind = "put"
	aSwap kind = "swap" // a put if the key has the revision that was seen, else a get
)

// content is what a key holds: the state of the model.
type content struct {
	Value    string
	Revision int64
}

// keyModel is one key of etcd: what a call may answer, given what the key holds.
// Revisions only grow. It is asked about each key by itself: a history is
// linearizable when it is so for each key.
var keyModel = porcupine.Model{
	Init: func() any { return content{} },
	Step: func(state, input, _ any) (bool, any) {
		before, c := state.(content), input.(call)
		after := content{c.Value, c.Revision}
		switch {
		case c.Kind == aGet:
			return after == before, before
		case c.Refused:
			return after == before && c.Seen != before.Revision, before
		case c.Kind == aSwap && c.Seen != before.Revision:
			return false, before
		}
		return c.Value == c.Write && c.Revision > before.Revision, after
	},
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		keys := map[string][]porcupine.Operation{}
		for _, operation := range history {
			key := operation.Input.(call).Key
			keys[key] = append(keys[key], operation)
		}
		return slices.Collect(maps.Values(keys))
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// checkLimit bounds the search for an order of the calls. A search that finds
// one takes less than a second, one that proves that there is none takes a few.
const checkLimit = time.Minute

// linearizable looks for an order of the calls that explains all answers, each
// call taking place at one moment between its start and its end.
func linearizable(history []call) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(keyModel, operations(history), checkLimit)
}

// visualize writes a page that shows how far an order of the calls explains the
// answers. The search that it needs takes longer.
func visualize(history []call, page io.Writer) error {
	_, info := porcupine.CheckOperationsVerbose(keyModel, operations(history), checkLimit)
	return porcupine.Visualize(keyModel, info, page)
}

func operations(history []call) (list []porcupine.Operation) {
	for _, c := range settle(history) {
		list = append(list, porcupine.Operation{
			ClientId: c.Client, Input: c, Call: int64(c.Called), Return: int64(c.Returned),
		})
	}
	return list
}

// settle decides about the calls whose outcome is unknown, which may happen at
// any later time. That keeps the search for an order small.
//
// A value that was read has been written: with the revision that was read, and
// before the first of its readers ended. A write whose value nobody has read is
// left out. If it happened, it happened last, or another put replaced it unseen:
// the order of the others is the same without it. A swap cannot replace it
// unseen, for it names the revision, which only a read tells.
func settle(history []call) []call {
	type written struct{ key, value string }
	first := map[written]call{}
	for _, c := range history {
		if c.Unknown || c.Kind != aGet && !c.Refused {
			continue
		}
		of := written{c.Key, c.Value}
		if before, ok := first[of]; !ok || c.Returned < before.Returned {
			first[of] = c
		}
	}
	var settled []call
	for _, c := range history {
		if c.Unknown {
			reader, ok := first[written{c.Key, c.Write}]
			if !ok {
				continue
			}
			c.Unknown, c.Value, c.Revision = false, reader.Value, reader.Revision
			c.Returned = max(reader.Returned, c.Called)
		}
		settled = append(settled, c)
	}
	return settled
}

// tally is the number of increments in a history, and what the counter was when
// it was read last.
type tally struct{ acknowledged, attempted, final int }

// increments counts those in a history.
func increments(history []call) (sum tally) {
	var last time.Duration
	for _, c := range history {
		switch {
		case c.Key != counterKey:
		case c.Kind == aSwap:
			sum.attempted++
			if !c.Unknown && !c.Refused {
				sum.acknowledged++
			}
		case c.Kind == aGet && c.Called >= last:
			last, sum.final = c.Called, number(c.Value)
		}
	}
	return sum
}

func (s tally) right() bool {
	return s.acknowledged <= s.final && s.final <= s.attempted
}

// number returns the number that a counter's value starts with. The rest of it
// says who wrote it.
func number(value string) int {
	digits, _, _ := strings.Cut(value, " ")
	n, _ := strconv.Atoi(digits)
	return n
}

func TestCounterChecker(t *testing.T) {
	t.Parallel()
	const s = time.Second
	// Calls of one key follow each other, one a second, unless they say more.
	reads := func(value string, revision int64) call {
		return call{Kind: aGet, Value: value, Revision: revision}
	}
	writes := func(value string, revision int64) call {
		return call{Kind: aPut, Write: value, Value: value, Revision: revision}
	}
	swaps := func(seen int64, value string, revision int64) call {
		return call{Kind: aSwap, Seen: seen, Write: value, Value: value, Revision: revision}
	}
	refused := func(seen int64, value string, revision int64) call {
		return call{Kind: aSwap, Seen: seen, Write: "refused", Refused: true, Value: value, Revision: revision}
	}
	lost := func(c call) call { // The answer is.
		c.Unknown, c.Value, c.Revision = true, "", 0
		return c
	}
	during := func(c call, called, returned time.Duration) call {
		c.Called, c.Returned = called, returned
		return c
	}
	for name, c := range map[string]struct {
		history []call
		want    porcupine.CheckResult
	}{
		"one after the other": {[]call{reads("", 0), swaps(0, "1 a", 2), reads("1 a", 2),
			refused(0, "1 a", 2), swaps(2, "2 b", 3), reads("2 b", 3)}, porcupine.Ok},
		"a lost update at the same time": {[]call{swaps(0, "1 a", 2), during(swaps(2, "2 a", 3), 2*s, 5*s),
			during(swaps(2, "2 b", 4), 2*s, 5*s)}, porcupine.Illegal},
		"a stale read":            {[]call{writes("a", 2), writes("b", 3), reads("a", 2)}, porcupine.Illegal},
		"a read during the write": {[]call{writes("a", 2), during(writes("b", 3), 2*s, 5*s), reads("a", 2)}, porcupine.Ok},
		"two reads in the wrong order": {[]call{writes("a", 2), during(writes("b", 3), 2*s, 9*s),
			during(reads("b", 3), 3*s, 4*s), during(reads("a", 2), 5*s, 6*s)}, porcupine.Illegal},
		"a write that is gone":                 {[]call{writes("a", 2), reads("", 0)}, porcupine.Illegal},
		"a read of what nobody wrote":          {[]call{writes("a", 2), reads("b", 3)}, porcupine.Illegal},
		"another revision of a value":          {[]call{writes("a", 2), reads("a", 3)}, porcupine.Illegal},
		"a revision that does not grow":        {[]call{writes("a", 3), writes("b", 2)}, porcupine.Illegal},
		"refused for no reason":                {[]call{writes("a", 2), refused(2, "a", 2)}, porcupine.Illegal},
		"refused with another value":           {[]call{writes("a", 2), refused(0, "b", 3)}, porcupine.Illegal},
		"an unknown write that did not happen": {[]call{writes("a", 2), lost(writes("b", 3)), reads("a", 2)}, porcupine.Ok},
		"an unknown write that happened later": {[]call{writes("a", 2), lost(writes("b", 3)), reads("a", 2),
			reads("b", 3)}, porcupine.Ok},
		"an unknown write that is undone": {[]call{writes("a", 2), lost(writes("b", 3)), reads("b", 3),
			reads("a", 2)}, porcupine.Illegal},
		"an unknown write before its call": {[]call{writes("a", 2), reads("b", 3), lost(writes("b", 3))}, porcupine.Illegal},
		"an unknown swap that did not happen": {[]call{writes("a", 2), lost(swaps(2, "b", 3)),
			swaps(2, "c", 3)}, porcupine.Ok},
		"an unknown swap that happened": {[]call{writes("a", 2), lost(swaps(2, "b", 3)),
			refused(2, "b", 3), swaps(3, "c", 4)}, porcupine.Ok},
		"an unknown swap that had to be refused": {[]call{writes("a", 2), swaps(2, "b", 3),
			lost(swaps(2, "c", 4)), reads("c", 4)}, porcupine.Illegal},
	} {
		for i := range c.history {
			c.history[i].Key = counterKey
			if c.history[i].Returned == 0 {
				c.history[i].Called = time.Duration(i+1) * s
				c.history[i].Returned = c.history[i].Called + s/2
			}
		}
		if got := linearizable(c.history); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	// One increment is acknowledged, of three.
	for final, want := range []bool{false, true, true, true, false} {
		sum := increments([]call{
			{Key: counterKey, Kind: aSwap},
			{Key: counterKey, Kind: aSwap, Refused: true},
			{Key: counterKey, Kind: aSwap, Unknown: true},
			{Key: counterKey, Kind: aGet, Value: fmt.Sprint(final, " a"), Called: 2 * s},
			{Key: counterKey, Kind: aGet, Value: "2 a", Called: 1 * s},
			{Key: registerKey, Kind: aPut},
		})
		if sum.right() != want {
			t.Errorf("%+v is right: %t, want %t", sum, !want, want)
		}
	}
}

// TestCounterProof: a counter that clients increment with compare-and-set ends
// between the acknowledged and the attempted number, and the history of this
// and of plain puts and gets is linearizable, also when leaders are killed.
func TestCounterProof(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	kills, least := 1, 1000
	if etcdtest.Nightly() {
		kills, least = 8, 8000
	}
	random := harness.Random(t)
	c := newCounter(t, random)
	stop := repeat(t, len(c.clients), random, func(_ context.Context, n int, random *rand.Rand) {
		time.Sleep(time.Duration(random.Int64N(int64(pauseLimit))))
		c.work(n, random)
	})
	// more returns when so many further calls have been answered.
	more := func(calls int) {
		t.Helper()
		from := c.answered.Load()
		etcdtest.Within(t, 5*time.Minute, "calls are answered", func() bool {
			return c.answered.Load() >= from+int64(calls)
		})
	}
	for range kills {
		more(least / (2 * kills))
		killed := harness.KillLeader(t, c.etcd)
		more(least / (2 * kills))
		etcdtest.NoError(t, killed.Start(etcdtest.Soon(t)))
	}
	more(least / 2)
	stop()

	c.last(t, counterKey)
	c.last(t, registerKey)
	sum := increments(c.history)
	happened := int64(len(settle(c.history))) - c.answered.Load()
	unknown := int64(len(c.history)) - c.answered.Load()
	t.Logf("%d calls, %d with an unknown outcome, of which %d had happened; %d kills; %+v",
		len(c.history), unknown, happened, kills, sum)
	if !sum.right() {
		t.Errorf("lost, or counted twice: %+v", sum)
	}
	switch linearizable(c.history) {
	case porcupine.Unknown:
		t.Errorf("not known after %v whether the history is linearizable", checkLimit)
	case porcupine.Illegal:
		t.Error("the history is not linearizable")
		keep(t, "html", func(w io.Writer) error { return visualize(c.history, w) })
	}
}

// TestCounterWithoutCompare lets clients write at the same time what they have
// read at the same time. With the comparison only one can; without, the checker
// must notice.
func TestCounterWithoutCompare(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	for _, compare := range []bool{true, false} {
		t.Run(fmt.Sprintf("compare=%t", compare), func(t *testing.T) {
			t.Parallel()
			c := newCounter(t, harness.Random(t))
			c.compare = compare
			for range 10 {
				var reads, writes sync.WaitGroup
				seen := make([]call, len(c.clients))
				for n := range c.clients {
					reads.Go(func() { seen[n], _ = c.get(n, counterKey) })
				}
				reads.Wait()
				for n := range c.clients {
					writes.Go(func() { c.increment(n, seen[n]) })
				}
				writes.Wait()
			}
			c.last(t, counterKey)
			want := porcupine.Ok
			if !compare {
				want = porcupine.Illegal
			}
			sum := increments(c.history)
			if got := linearizable(c.history); got != want || sum.right() != compare {
				t.Errorf("compared: %t, of %d calls: %s, %+v", compare, len(c.history), got, sum)
			}
		})
	}
}

// counter is what clients increment, and the history of their calls.
type counter struct {
	etcd     *cluster.Cluster
	clients  []*clientv3.Client
	compare  bool // as it should be
	begin    time.Time
	written  atomic.Int64 // makes each value that is written another one
	answered atomic.Int64 // calls that ended without an error

	mu      sync.Mutex
	history []call
}

func newCounter(t *testing.T, random *rand.Rand) *counter {
	t.Helper()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	c := &counter{etcd: etcd, compare: true, begin: time.Now()}
	keep(t, "json", func(w io.Writer) error { return json.NewEncoder(w).Encode(c.history) })
	for range 8 {
		endpoints := etcd.Endpoints()
		random.Shuffle(len(endpoints), func(i, j int) {
			endpoints[i], endpoints[j] = endpoints[j], endpoints[i]
		})
		c.clients = append(c.clients, etcdtest.Connect(t, endpoints...))
	}
	return c
}

const (
	// callLimit is the deadline of each call. It is shorter than an election, so
	// that some writes happen when nobody waits for the answer any more.
	callLimit = 500 * time.Millisecond

	// pauseLimit is how long a client waits at most between two things it does.
	// With no wait at all, a run at full length has more calls than needed.
	pauseLimit = 10 * time.Millisecond
)

// work does one of the things that a client does.
func (c *counter) work(n int, random *rand.Rand) {
	switch random.IntN(6) {
	case 0:
		c.get(n, registerKey)
	case 1:
		c.do(call{Client: n, Key: registerKey, Kind: aPut, Write: fmt.Sprintf("#%d", c.written.Add(1))})
	default:
		if seen, ok := c.get(n, counterKey); ok {
			c.increment(n, seen)
		}
	}
}

func (c *counter) get(n int, key string) (call, bool) {
	return c.do(call{Client: n, Key: key, Kind: aGet})
}

// last reads the key when no client does anything any more.
func (c *counter) last(t *testing.T, key string) {
	t.Helper()
	etcdtest.Eventually(t, key+" is read", func() bool {
		_, ok := c.get(0, key)
		return ok
	})
}

// increment writes the number that follows seen, if nobody has before.
func (c *counter) increment(n int, seen call) {
	c.do(call{Client: n, Key: counterKey, Kind: aSwap, Seen: seen.Revision,
		Write: fmt.Sprintf("%d #%d", number(seen.Value)+1, c.written.Add(1))})
}

// do makes one call and adds it to the history.
func (c *counter) do(made call) (call, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	get, put := clientv3.OpGet(made.Key), clientv3.OpPut(made.Key, made.Write)
	op := get
	switch made.Kind {
	case aPut:
		op = put
	case aSwap:
		var unchanged []clientv3.Cmp
		if c.compare {
			unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(made.Key), "=", made.Seen))
		}
		op = clientv3.OpTxn(unchanged, []clientv3.Op{put}, []clientv3.Op{get})
	}
	made.Called = time.Since(c.begin)
	answer, err := c.clients[made.Client].Do(ctx, op)
	made.Returned = time.Since(c.begin)
	switch {
	case err == nil:
		made.take(answer)
		c.answered.Add(1)
	case made.Kind == aGet:
		return made, false
	default:
		made.Unknown = true
	}
	c.mu.Lock()
	c.history = append(c.history, made)
	c.mu.Unlock()
	return made, err == nil
}

// take notes what was answered.
func (c *call) take(answer clientv3.OpResponse) {
	get, put, txn := answer.Get(), answer.Put(), answer.Txn()
	var read []*mvccpb.KeyValue
	switch {
	case get != nil:
		read = get.Kvs
	case put != nil:
		c.Value, c.Revision = c.Write, put.Header.Revision
	case txn.Succeeded:
		c.Value, c.Revision = c.Write, txn.Header.Revision
	default:
		c.Refused = true
		read = txn.Responses[0].GetResponseRange().Kvs
	}
	for _, kv := range read {
		c.Value, c.Revision = string(kv.Value), kv.ModRevision
	}
}
