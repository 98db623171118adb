package history

import (
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/google/btree"
)

// Moment is what was known of etcd after a revision. It never changes.
type Moment struct {
	Revision int64
	Time     time.Time // what was heard until then is in it
	Members  []Member

	store  *btree.BTreeG[*KeyValue]
	leases []Lease
}

// At returns the moment at which a revision was seen. The error wraps ErrForgotten
// or ErrFuture.
func (r *Record) At(revision int64) (*Moment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.knows(revision, revision); err != nil {
		return nil, fmt.Errorf("revision %d: %w", revision, err)
	}
	seen := r.base
	if at := r.index(revision); at < len(r.entries) && r.entries[at].revision == revision {
		seen = r.entries[at].seen
	}
	return r.moment(revision, seen), nil
}

// AtTime returns the moment at a time. The error wraps ErrForgotten for a time
// before the record begins, and ErrFuture for one after which nothing was heard yet.
func (r *Record) AtTime(t time.Time) (*Moment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := t.Sub(r.began)
	switch {
	case seen < r.base:
		return nil, fmt.Errorf("the time %v: %w", t.Format(time.TimeOnly), ErrForgotten)
	case seen > r.heard:
		return nil, fmt.Errorf("the time %v: %w", t.Format(time.TimeOnly), ErrFuture)
	}
	revision := r.past[0].revision
	if at := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].seen > seen }); at > 0 {
		revision = r.entries[at-1].revision
	}
	return r.moment(revision, seen), nil
}

// Present returns all that is known by now.
func (r *Record) Present() *Moment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moment(r.last, r.heard)
}

// moment is called with mu held, for a revision that is known.
func (r *Record) moment(revision int64, seen time.Duration) *Moment {
	m := &Moment{Revision: revision, Time: r.began.Add(seen), Members: r.members.at(seen)}
	m.leases = r.leases.at(revision, seen, seen-inSight, r.began)
	if revision == r.last {
		m.store = r.now.Clone()
		return m
	}
	nearest := sort.Search(len(r.past), func(i int) bool { return r.past[i].revision > revision }) - 1
	m.store = r.past[nearest].store.Clone()
	for _, e := range r.entries[r.index(r.past[nearest].revision+1):r.index(revision+1)] {
		e.apply(m.store)
	}
	return m
}

// Len returns how many keys there are.
func (m *Moment) Len() int { return m.store.Len() }

// Get returns a key, or nil when there is none.
func (m *Moment) Get(key string) *KeyValue {
	kv, _ := m.store.Get(&KeyValue{Key: key})
	return kv
}

// Range returns the keys that begin with a prefix, in order.
func (m *Moment) Range(prefix string) iter.Seq[*KeyValue] {
	return func(yield func(*KeyValue) bool) {
		m.store.AscendGreaterOrEqual(&KeyValue{Key: prefix}, func(kv *KeyValue) bool {
			return strings.HasPrefix(kv.Key, prefix) && yield(kv)
		})
	}
}

// Leases returns the leases that are alive, and those that have ended in the last
// 10 s, in the order in which they were first heard of.
func (m *Moment) Leases() []Lease {
	if len(m.leases) == 0 {
		return nil
	}
	attached := map[int64][]string{}
	for kv := range m.Range("") {
		if kv.Lease != 0 {
			attached[kv.Lease] = append(attached[kv.Lease], kv.Key)
		}
	}
	leases := slices.Clone(m.leases)
	for i, l := range leases {
		if l.Ended == Alive {
			leases[i].Keys = attached[l.ID]
		}
	}
	return leases
}
