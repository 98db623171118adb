package history_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/history"
)

// began is when the records of these tests begin.
var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at returns so many seconds after began.
func at(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

// put returns a key as etcd tells it. create 0 stands for mod.
func put(key, value string, create, mod, version int64) history.Put {
	if create == 0 {
		create = mod
	}
	return history.Put{Key: key, Value: value, Create: create, Mod: mod, Version: version}
}

func gone(key string, mod int64) history.Put { return history.Put{Key: key, Mod: mod} }

// simulated is an etcd that remembers everything.
type simulated struct {
	random   *rand.Rand
	revision int64
	now      map[string]history.KeyValue
	all      map[int64]map[string]history.KeyValue // the store as of each revision
	changes  map[int64]int                         // keys that changed in each
}

func simulate(seed uint64) *simulated {
	return &simulated{random: rand.New(rand.NewPCG(seed, 1)), revision: 1,
		now:     map[string]history.KeyValue{},
		all:     map[int64]map[string]history.KeyValue{1: {}},
		changes: map[int64]int{}}
}

// next makes a revision of one to five changes.
func (s *simulated) next() (changes []history.Put) {
	for len(changes) == 0 {
		taken := map[string]bool{}
		for range 1 + s.random.IntN(5) {
			key := fmt.Sprint("/k/", s.random.IntN(40))
			old, there := s.now[key]
			switch {
			case taken[key]:
			case there && s.random.IntN(3) == 0:
				changes = append(changes, gone(key, s.revision+1))
				delete(s.now, key)
			default:
				made := put(key, fmt.Sprint(s.random.Uint32()), old.Create, s.revision+1, old.Version+1)
				made.Size = len(made.Value)
				changes = append(changes, made)
				s.now[key] = made
			}
			taken[key] = len(changes) > 0
		}
	}
	s.revision++
	s.all[s.revision] = maps.Clone(s.now)
	s.changes[s.revision] = len(changes)
	return changes
}

func keysOf(m *history.Moment) map[string]history.KeyValue {
	keys := map[string]history.KeyValue{}
	for kv := range m.Range("") {
		keys[kv.Key] = *kv
	}
	return keys
}

// TestAt compares the store at every revision with what a simulation remembers, while
// the record forgets.
func TestAt(t *testing.T) {
	for _, limit := range []int{0, 1, 7, 500, 9000} {
		t.Run(fmt.Sprint("limit ", limit), func(t *testing.T) {
			etcd := simulate(1)
			r := history.New(history.Limits{Changes: limit}, 1, nil, began)
			for range 5000 {
				if err := r.Append(etcd.next(), at(float64(etcd.revision))); err != nil {
					t.Fatal(err)
				}
				if n := etcd.revision; n%500 == 7 {
					check(t, r, etcd)
				}
			}
			check(t, r, etcd)
			kept, err := r.Changes(r.First()+1, r.Last())
			if err != nil {
				t.Fatal(err)
			}
			// One revision more would have been too much.
			more := len(kept) + etcd.changes[r.First()]
			if limit > 5 && (len(kept) > limit || more <= limit) {
				t.Errorf("%d changes are remembered, and %d with one revision more; the limit is %d", len(kept), more, limit)
			}
		})
	}
}

func check(t *testing.T, r *history.Record, etcd *simulated) {
	t.Helper()
	first, last := r.First(), r.Last()
	if last != etcd.revision {
		t.Fatalf("the last revision is %d, want %d", last, etcd.revision)
	}
	step := max(1, (last-first)/200)
	for n := first; n <= last; n += step {
		m, err := r.At(n)
		if err != nil {
			t.Fatal(err)
		}
		if got := keysOf(m); !maps.Equal(got, etcd.all[n]) {
			t.Fatalf("at revision %d of %d to %d: %v\nwant %v", n, first, last, got, etcd.all[n])
		}
		if m.Revision != n || m.Len() != len(etcd.all[n]) {
			t.Errorf("revision %d, %d keys, want %d and %d", m.Revision, m.Len(), n, len(etcd.all[n]))
		}
		if n == first {
			continue
		}
		for _, late := range []float64{0, 0.5} {
			byTime, err := r.AtTime(at(float64(n) + late))
			if n == last && late > 0 {
				if !errors.Is(err, history.ErrFuture) {
					t.Errorf("after all that was heard: %v, want ErrFuture", err)
				}
			} else if err != nil || byTime.Revision != n || !maps.Equal(keysOf(byTime), etcd.all[n]) {
				t.Errorf("%v s after revision %d: %v, %v", late, n, byTime, err)
			}
		}
		changes, err := r.Changes(n, n)
		if err != nil || len(changes) != etcd.changes[n] {
			t.Fatalf("revision %d has the changes %v, %v; want %d of them", n, changes, err, etcd.changes[n])
		}
		for _, c := range changes {
			before, was := etcd.all[n-1][c.Key]
			after, is := etcd.all[n][c.Key]
			if was != (c.Before != nil) || is != (c.After != nil) || was && before != *c.Before || is && after != *c.After {
				t.Fatalf("revision %d: %v became %v, want %v and %v", n, c.Before, c.After, before, after)
			}
		}
	}
	for _, c := range []struct {
		revision int64
		want     error
	}{{first - 1, history.ErrForgotten}, {0, history.ErrForgotten}, {last + 1, history.ErrFuture}} {
		if _, err := r.At(c.revision); !errors.Is(err, c.want) {
			t.Errorf("at %d of %d to %d: %v, want %v", c.revision, first, last, err, c.want)
		}
	}
	if _, err := r.Changes(first, last); !errors.Is(err, history.ErrForgotten) {
		t.Errorf("the changes of revision %d, before which all is forgotten: %v", first, err)
	}
	if _, err := r.Changes(last, last+1); !errors.Is(err, history.ErrFuture) {
		t.Errorf("the changes of revision %d: %v", last+1, err)
	}
	if changes, err := r.Changes(last, first); last > first && (err != nil || len(changes) != 0) {
		t.Errorf("the changes from revision %d to %d: %v, %v", last, first, changes, err)
	}
	start := at(float64(first))
	if first == 1 {
		start = began
	}
	if m, err := r.AtTime(start); err != nil || m.Revision != first {
		t.Errorf("at the time of the first revision, %d: %v, %v", first, m, err)
	}
	if _, err := r.AtTime(start.Add(-1)); !errors.Is(err, history.ErrForgotten) {
		t.Errorf("before the beginning: %v, want ErrForgotten", err)
	}
}

// TestMomentStays looks at a moment again after the record has gone on and forgotten it.
func TestMomentStays(t *testing.T) {
	etcd := simulate(2)
	r := history.New(history.Limits{Changes: 300}, 1, nil, began)
	moments := map[int64]*history.Moment{}
	for range 2000 {
		if err := r.Append(etcd.next(), at(1)); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int64{r.First(), (r.First() + r.Last()) / 2, r.Last()} {
			m, err := r.At(n)
			if err != nil {
				t.Fatal(err)
			}
			moments[n] = m
		}
	}
	for n, m := range moments {
		if !maps.Equal(keysOf(m), etcd.all[n]) {
			t.Fatalf("the moment of revision %d has changed since", n)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	keys := []*history.KeyValue{{Key: "a", Value: "1", Create: 3, Mod: 5, Version: 2}}
	for name, changes := range map[string][]history.Put{
		"a revision left out":            {put("b", "", 0, 7, 1)},
		"a revision again":               {put("b", "", 0, 5, 1)},
		"one left out between":           {put("b", "", 0, 6, 1), put("c", "", 0, 8, 1)},
		"one before another":             {put("b", "", 0, 6, 1), put("c", "", 0, 5, 1)},
		"a put left out":                 {put("a", "", 3, 6, 4)},
		"a put twice":                    {put("a", "", 3, 6, 2)},
		"another life of the key":        {put("a", "", 4, 6, 3)},
		"a new key that is not new":      {put("b", "", 2, 6, 2)},
		"new, with a wrong creation":     {put("b", "", 5, 6, 1)},
		"new, with a wrong version":      {put("b", "", 0, 6, 2)},
		"the deletion of a missing key":  {gone("b", 6)},
		"a key twice in a revision":      {put("a", "", 3, 6, 3), put("a", "", 3, 6, 4)},
		"a key deleted twice":            {gone("a", 6), gone("a", 7)},
		"a key put and deleted at once":  {put("b", "", 0, 6, 1), gone("b", 6)},
		"right at first, and wrong then": {put("a", "2", 3, 6, 3), gone("b", 7)},
	} {
		r := history.New(history.Limits{}, 5, keys, began)
		if err := r.Append(changes, at(1)); !errors.Is(err, history.ErrGap) {
			t.Errorf("%s: %v, want ErrGap", name, err)
		}
		if m := r.Present(); r.Last() != 5 || m.Len() != 1 || m.Get("a").Value != "1" {
			t.Errorf("%s: something was added all the same", name)
		}
		if err := r.Append([]history.Put{gone("a", 6), put("b", "", 0, 6, 1), put("a", "", 0, 7, 1)}, at(1)); err != nil {
			t.Errorf("%s, and then what follows: %v", name, err)
		}
	}
}

// TestMemory fills records up to their limit and looks at what Go needs for them.
func TestMemory(t *testing.T) {
	const limit = 16 << 20
	for _, c := range []struct{ keys, value int }{{10, 10}, {1000, 50}, {20_000, 100}, {100, 2000}} {
		t.Run(fmt.Sprint(c.keys, " keys of ", c.value, " bytes"), func(t *testing.T) {
			before := heap()
			r := history.New(history.Limits{Changes: 1 << 30, Bytes: limit}, 1, nil, began)
			fill(t, r, 200_000, int64(c.keys), c.value)
			used := heap() - before
			kept := r.Last() - r.First()
			t.Logf("%d changes in %.1f MiB", kept, float64(used)/(1<<20))
			if used > limit+limit/10 || used < limit/3 {
				t.Errorf("%d changes take %.1f MiB, the limit is %d", kept, float64(used)/(1<<20), limit>>20)
			}
			runtime.KeepAlive(r)
		})
	}
}

// fill makes so many revisions, in each of which one of the keys is put or, seldom,
// deleted.
func fill(t testing.TB, r *history.Record, revisions, keys int64, value int) {
	t.Helper()
	versions, creates := make([]int64, keys), make([]int64, keys)
	for mod := r.Last() + 1; mod < revisions; mod++ {
		k := mod % keys
		if mod%97 == 96 && versions[k] > 0 {
			versions[k] = 0
			append1(t, r, gone(name(k), mod))
			continue
		}
		if versions[k]++; versions[k] == 1 {
			creates[k] = mod
		}
		append1(t, r, put(name(k), strings.Repeat("v", value), creates[k], mod, versions[k]))
	}
}

func name(k int64) string { return fmt.Sprintf("/registry/things/%06d", k) }

func append1(t testing.TB, r *history.Record, change history.Put) {
	t.Helper()
	if err := r.Append([]history.Put{change}, at(float64(change.Mod)/1000)); err != nil {
		t.Fatal(err)
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// BenchmarkMillion asks a record of a million changes of 10,000 keys for moments at
// several places of it.
func BenchmarkMillion(b *testing.B) {
	before := heap()
	r := history.New(history.Limits{}, 1, nil, began)
	fill(b, r, 1_000_000, 10_000, 50)
	memory := float64(heap()-before) / (1 << 20)
	for _, percent := range []int64{1, 50, 99} {
		b.Run(fmt.Sprint("at ", percent, "%"), func(b *testing.B) {
			for b.Loop() {
				m, err := r.At(r.First() + (r.Last()-r.First())*percent/100)
				if err != nil {
					b.Fatal(err)
				}
				m.Get("")
			}
			b.ReportMetric(memory, "MiB")
		})
	}
}

func TestValues(t *testing.T) {
	r := history.New(history.Limits{Value: 4}, 1, nil, began)
	append1(t, r, put("a", "123456", 0, 2, 1))
	append1(t, r, put("b", "1234", 0, 3, 1))
	for key, want := range map[string]history.KeyValue{
		"a": {Key: "a", Value: "1234", Size: 6, Create: 2, Mod: 2, Version: 1},
		"b": {Key: "b", Value: "1234", Size: 4, Create: 3, Mod: 3, Version: 1},
	} {
		if got := r.Present().Get(key); got == nil || *got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	var saved bytes.Buffer
	if err := r.Save(&saved); err != nil {
		t.Fatal(err)
	}
	loaded, err := history.Load(&saved, history.Limits{Value: 2})
	if err != nil {
		t.Fatal(err)
	}
	if got := loaded.Present().Get("a"); got.Value != "12" || got.Size != 6 {
		t.Errorf("loaded with another limit: %v", got)
	}
}

// TestNext waits for each kind of news.
func TestNext(t *testing.T) {
	r := history.New(history.Limits{}, 1, nil, began)
	look := history.Look{Lease: 7, Asked: at(1), Answered: at(1), TTL: 5, Remaining: 4}
	over := history.Look{Lease: 7, Asked: at(9), Answered: at(9), Remaining: -1}
	for i, tell := range []func(){
		func() { append1(t, r, put("a", "", 0, 2, 1)) },
		func() { r.Look(look) },
		func() { r.Look(over) },
		func() { r.Settle(7, history.Expired) },
		func() { r.Member(history.Member{Endpoint: "a"}, at(2)) },
	} {
		next := r.Next()
		select {
		case <-next:
			t.Errorf("before news %d there is some", i)
		default:
		}
		tell()
		select {
		case <-next:
		default:
			t.Errorf("nobody is told of news %d", i)
		}
	}
}

// TestSideBySide reads a record that is written. It is for the race detector, and
// for what readers must find.
func TestSideBySide(t *testing.T) {
	etcd := simulate(3)
	r := history.New(history.Limits{Changes: 2000}, 1, nil, began)
	done := make(chan struct{})
	var reading sync.WaitGroup
	for i := range 4 {
		random := rand.New(rand.NewPCG(uint64(i), 2))
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-r.Next():
				}
				first, last := r.First(), r.Last()
				n := first + random.Int64N(last-first+1)
				m, err := r.At(n)
				if errors.Is(err, history.ErrForgotten) {
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				for kv := range m.Range("") {
					if kv.Mod > n {
						t.Errorf("at revision %d there is what came after it", n)
					}
				}
			}
		})
	}
	for i := range 20_000 {
		if err := r.Append(etcd.next(), at(float64(i))); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	reading.Wait()
}

func TestSaveAndLoad(t *testing.T) {
	etcd := simulate(4)
	r := history.New(history.Limits{Changes: 50}, 1, nil, began)
	for range 100 {
		if err := r.Append(etcd.next(), at(float64(etcd.revision)+0.25)); err != nil {
			t.Fatal(err)
		}
	}
	odd := "\xff\x00<&\u2028\"ü"
	append1(t, r, history.Put{Key: odd, Value: odd, Create: 102, Mod: 102, Version: 1, Lease: -7})
	append1(t, r, history.Put{Key: "b", Create: 103, Mod: 103, Version: 1, Lease: 8})
	r.Look(history.Look{Lease: -7, Asked: at(110), Answered: at(110.1), TTL: 10, Remaining: 9, Term: 3})
	r.Look(history.Look{Lease: -7, Asked: at(114), Answered: at(114.1), TTL: 10, Remaining: 9, Term: 3})
	append1(t, r, gone("b", 104))
	r.Look(history.Look{Lease: 8, Asked: at(115), Answered: at(115.1), Remaining: -1})
	r.Member(history.Member{Name: "etcd1", Endpoint: "127.0.0.1:2379", ID: 1<<63 + 5, Role: history.Leader, Term: 3, Size: 1 << 40}, at(115))
	r.Member(history.Member{Name: "etcd1", Endpoint: "127.0.0.1:2379", Role: history.Unreachable, Quota: 1 << 41, Full: true}, at(116))
	r.Look(history.Look{Lease: -7, Asked: at(117), Answered: at(117), TTL: 10, Remaining: 6, Term: 3})

	r.Note(103, "The leader was killed.", at(113))

	var saved bytes.Buffer
	if err := r.Save(&saved); err != nil {
		t.Fatal(err)
	}
	loaded, err := history.Load(bytes.NewReader(saved.Bytes()), history.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := loaded.Save(&again); err != nil {
		t.Fatal(err)
	}
	if saved.String() != again.String() {
		t.Errorf("saved\n%s\nand, once loaded,\n%s", saved.String(), again.String())
	}
	for n := r.First(); n <= r.Last(); n++ {
		was, err := r.At(n)
		if err != nil {
			t.Fatal(err)
		}
		is, err := loaded.At(n)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(keysOf(was), keysOf(is)) || !reflect.DeepEqual(was.Leases(), is.Leases()) ||
			!slices.Equal(was.Members, is.Members) || !was.Time.Equal(is.Time) {
			t.Errorf("at revision %d: %v\nwant %v", n, is, was)
		}
	}
	if was, is := r.Present(), loaded.Present(); !reflect.DeepEqual(was.Leases(), is.Leases()) ||
		len(is.Leases()) != 1 || !slices.Equal(was.Members, is.Members) {
		t.Errorf("now: %v\nwant %v", is.Leases(), was.Leases())
	}
	if was, is := r.EndedLeases(), loaded.EndedLeases(); !reflect.DeepEqual(was, is) || len(is) != 1 {
		t.Errorf("these have ended: %v\nwant %v", is, was)
	}

	if is := loaded.Notes(); len(is) != 1 || is[0].Revision != 103 || is[0].Text != "The leader was killed." || !is[0].Seen.Equal(at(113)) {
		t.Errorf("the notes are %v", is)
	}

	if _, err := loaded.AtTime(at(117)); err != nil {
		t.Errorf("at the end: %v", err)
	}

	lines := strings.SplitAfter(strings.TrimSuffix(saved.String(), "\n"), "\n")
	broken := func(edit func([]string) []string) string { return strings.Join(edit(slices.Clone(lines)), "") }
	change := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, `{"change"`) })
	for name, text := range map[string]string{
		"nothing":            "",
		"not JSON":           "hello\n",
		"another format":     strings.Replace(saved.String(), "etcd history 1", "etcd history 9", 1),
		"the beginning lost": broken(func(l []string) []string { return l[1:] }),
		"the end lost":       broken(func(l []string) []string { return l[:len(l)-1] }),
		"cut in a line":      saved.String()[:len(saved.String())/2],
		"a revision lost":    broken(func(l []string) []string { return slices.Delete(l, change+1, change+2) }),
		"the last one lost":  strings.Replace(saved.String(), fmt.Sprintf(`"end":{"revision":%d`, r.Last()), `"end":{"revision":105`, 1),
		"a revision twice":   broken(func(l []string) []string { return slices.Insert(l, change+1, l[change]) }),
		"a key later":        broken(func(l []string) []string { return slices.Insert(l, change+1, l[1]) }),
		"an unknown line":    broken(func(l []string) []string { return slices.Insert(l, change+1, "{}\n") }),
		"a lease by name":    strings.Replace(saved.String(), `"lease":"fffffffffffffff9"`, `"lease":"mine"`, 1),
	} {
		if text == saved.String() {
			t.Errorf("%s: the text is not broken", name)
		}
		if _, err := history.Load(strings.NewReader(text), history.Limits{}); err == nil {
			t.Errorf("%s: it is loaded", name)
		}
	}
	if err := r.Save(failing{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("saved where nothing can be written: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }
