// Package history records what an etcd did: every change of its store, revision
// by revision, and what was learnt of its leases and members. It answers what the
// whole looked like after a revision or at a time, and never guesses: what it does
// not know is an error, or says so.
package history

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/btree"
)

var (
	// ErrForgotten is returned for what the record knows no more, or was never
	// told: it began later, or its limits made it forget.
	ErrForgotten = errors.New("the record does not reach back so far")

	// ErrFuture is returned for what the record does not know yet.
	ErrFuture = errors.New("the record has not come so far")

	// ErrGap is returned for a change that does not follow from what is recorded:
	// something between them is missing, or one of the two is of another store.
	ErrGap = errors.New("the change does not follow from what is recorded")
)

// KeyValue is a key as a revision left it. It is shared, and never changes.
type KeyValue struct {
	Key     string
	Value   string // its first Limits.Value bytes
	Size    int    // bytes of the whole value
	Create  int64  // the revision that created the key
	Mod     int64  // the revision that this is from
	Version int64  // how often it was put since it was created
	Lease   int64  // 0 for none
}

// Change is one key's part in a revision.
type Change struct {
	Revision int64
	Key      string
	Before   *KeyValue // nil when there was none
	After    *KeyValue // nil when the key was deleted
	Ended    Ending    // how the lease ended that took the key along; Alive if none did
	Seen     time.Time // when it was heard of
}

// Put is a change as etcd tells it. It is a deletion when Version is 0; of that,
// only Key and Mod are looked at.
type Put = KeyValue

// Limits bound what a record remembers. When one is reached, the oldest revisions
// are forgotten, each as a whole. The present always stays, whatever it takes. Zero
// stands for the default.
type Limits struct {
	Changes int // default 1,000,000
	Bytes   int // of memory, about; default 400 MiB
	Value   int // bytes kept of each value; default all of them
}

const (
	// entrySize and nodeSize are what Go needs for an entry and for a KeyValue with
	// its place in the trees, measured over a million changes.
	entrySize = 40
	nodeSize  = 112

	// spacing is how many changes lie between two snapshots: with fewer, the
	// snapshots take more memory; with more, At takes longer.
	spacing = 4096
)

// entry is a Change as it is kept.
type entry struct {
	revision      int64
	seen          time.Duration // since Record.began
	before, after *KeyValue
}

// snapshot is the store as it was after a revision.
type snapshot struct {
	revision int64
	store    *btree.BTreeG[*KeyValue]
}

// Record is what an etcd did, as far as it is remembered. Its methods may be called
// by several goroutines at once.
type Record struct {
	limits Limits
	began  time.Time

	mu      sync.Mutex
	entries []entry // only appended to and cut at its front: readers share it
	unswept int     // entries that were forgotten, and what else is as old was not
	base    time.Duration
	past    []snapshot // the first one is the store before the first entry
	now     *btree.BTreeG[*KeyValue]
	last    int64 // revision
	heard   time.Duration
	bytes   int
	news    news
	leases  leases
	members members
	notes   []Note
}

// New returns a record that begins with a reading of the whole store: all its keys,
// which need not be in order, at a revision. A new etcd is at revision 1 and has
// none.
func New(limits Limits, revision int64, keys []*KeyValue, seen time.Time) *Record {
	if limits.Changes == 0 {
		limits.Changes = 1_000_000
	}
	if limits.Bytes == 0 {
		limits.Bytes = 400 << 20
	}
	r := &Record{limits: limits, began: seen, last: revision}
	r.now = btree.NewG(32, func(a, b *KeyValue) bool { return a.Key < b.Key })
	for _, kv := range keys {
		kv = r.cut(kv)
		r.now.ReplaceOrInsert(kv)
		r.bytes += cost(kv)
	}
	r.past = []snapshot{{revision, r.now.Clone()}}
	r.leases = newLeases(nil, r.now)
	return r
}

func cost(kv *KeyValue) int {
	if kv == nil {
		return 0
	}
	// Go rounds up what it hands out, by up to an eighth.
	return nodeSize + len(kv.Key) + len(kv.Value)*9/8
}

// cut returns a KeyValue with no more of its value than the record keeps.
func (r *Record) cut(kv *KeyValue) *KeyValue {
	kept := *kv
	kept.Size = max(kept.Size, len(kept.Value))
	if limit := r.limits.Value; limit > 0 && len(kept.Value) > limit {
		kept.Value = strings.Clone(kept.Value[:limit]) // The rest can be freed.
	}
	return &kept
}

// Append adds what one answer of a watch of everything holds: one or more whole
// revisions, the first of which follows the last one recorded. When they do not follow
// from what is recorded, nothing is added, and the error wraps ErrGap.
func (r *Record) Append(changes []Put, seen time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	made, err := r.follow(changes, seen.Sub(r.began))
	if err != nil {
		return err
	}
	for _, e := range made {
		e.apply(r.now)
		r.bytes += entrySize + cost(e.after)
		r.leases.changed(e)
	}
	r.entries = append(r.entries, made...)
	if len(made) > 0 {
		r.last = made[len(made)-1].revision
	}
	if newest := r.past[len(r.past)-1].revision; len(r.entries)-r.index(newest+1) >= spacing {
		r.past = append(r.past, snapshot{r.last, r.now.Clone()})
	}
	r.forget()
	r.heardAt(seen)
	return nil
}

// follow returns the entries for changes, or an error when one does not follow from
// what was there before it.
func (r *Record) follow(changes []Put, seen time.Duration) ([]entry, error) {
	made := make([]entry, 0, len(changes))
	latest := map[string]*KeyValue{}
	revision := r.last
	for i := range changes {
		kv := &changes[i]
		before, changed := latest[kv.Key]
		if !changed {
			before, _ = r.now.Get(kv)
		}
		e := entry{revision: kv.Mod, seen: seen, before: before}
		if kv.Version > 0 {
			e.after = r.cut(kv)
			if before != nil {
				e.after.Key = before.Key // One copy of the text for all of its life.
			}
		}
		first := kv.Mod == revision+1
		if !first && (kv.Mod != revision || len(made) == 0) || !e.follows() {
			return nil, fmt.Errorf("record the change of %q at revision %d, after revision %d: %w",
				kv.Key, kv.Mod, revision, ErrGap)
		}
		revision = kv.Mod
		latest[kv.Key] = e.after
		made = append(made, e)
	}
	return made, nil
}

// follows reports whether the key can have become what it is from what it was.
func (e entry) follows() bool {
	switch {
	case e.after == nil:
		return e.before != nil && e.before.Mod < e.revision
	case e.before == nil:
		return e.after.Version == 1 && e.after.Create == e.revision
	default:
		return e.after.Version == e.before.Version+1 && e.after.Create == e.before.Create &&
			e.before.Mod < e.revision
	}
}

// apply makes the store before the entry the one after it.
func (e entry) apply(store *btree.BTreeG[*KeyValue]) {
	if e.after == nil {
		store.Delete(e.before)
	} else {
		store.ReplaceOrInsert(e.after)
	}
}

func (e entry) key() string {
	if e.after != nil {
		return e.after.Key
	}
	return e.before.Key
}

// forget lets go of the oldest revisions until the limits are kept. The last one
// stays.
func (r *Record) forget() {
	cut := 0
	for cut < len(r.entries) && r.entries[cut].revision < r.last &&
		(len(r.entries)-cut > r.limits.Changes || r.bytes > r.limits.Bytes) {
		revision := r.entries[cut].revision
		if len(r.past) > 1 && r.past[1].revision <= revision {
			r.past = slices.Delete(r.past, 0, 1)
		}
		for ; r.entries[cut].revision == revision; cut++ {
			e := r.entries[cut]
			e.apply(r.past[0].store)
			r.bytes -= entrySize + cost(e.before)
			r.base = e.seen
		}
		r.past[0].revision = revision
	}
	r.entries = r.entries[cut:] // What append copies next is without the rest.
	if r.unswept += cut; r.unswept >= spacing {
		r.unswept = 0
		r.leases.forget(r.base)
		r.members.forget(r.base)
	}
}

// index returns where the entries from a revision on begin.
func (r *Record) index(revision int64) int {
	at, _ := slices.BinarySearchFunc(r.entries, revision,
		func(e entry, revision int64) int { return cmp.Compare(e.revision, revision) })
	return at
}

// First returns the revision that the record reaches back to: it knows the store as
// of that, and all changes after it.
func (r *Record) First() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.past[0].revision
}

// Last returns the last revision recorded.
func (r *Record) Last() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Changes returns the changes of the revisions from one to another, both included,
// in order. The error wraps ErrForgotten or ErrFuture.
func (r *Record) Changes(from, to int64) ([]Change, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.knows(from-1, to); err != nil {
		return nil, fmt.Errorf("the changes from revision %d to %d: %w", from, to, err)
	}
	entries := r.entries[r.index(from):r.index(max(from, to+1))]
	changes := make([]Change, len(entries))
	for i, e := range entries {
		changes[i] = r.change(e)
	}
	return changes, nil
}

// Back returns the changes from a revision on back, the latest first, as far as they
// are remembered when it is called. The error wraps ErrForgotten or ErrFuture.
func (r *Record) Back(revision int64) (iter.Seq[Change], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.knows(revision, revision); err != nil {
		return nil, fmt.Errorf("the changes before revision %d: %w", revision, err)
	}
	entries := r.entries[:r.index(revision+1)]
	return func(yield func(Change) bool) {
		for _, e := range slices.Backward(entries) {
			r.mu.Lock()
			change := r.change(e)
			r.mu.Unlock()
			if !yield(change) {
				return
			}
		}
	}, nil
}

// change is called with mu held.
func (r *Record) change(e entry) Change {
	c := Change{e.revision, e.key(), e.before, e.after, Alive, r.began.Add(e.seen)}
	if log := r.leases.ends[e.revision]; log != nil && e.after == nil && e.before.Lease == log.id {
		c.Ended = log.ended
	}
	return c
}

// knows returns nil when the store is known from one revision to another.
func (r *Record) knows(from, to int64) error {
	switch {
	case from < r.past[0].revision:
		return ErrForgotten
	case to > r.last:
		return ErrFuture
	default:
		return nil
	}
}

// Note is what somebody has done to those who use etcd, which no change tells of.
type Note struct {
	Revision int64 // that of the store then
	Seen     time.Time
	Text     string
}

// Note adds a note to the record.
func (r *Record) Note(revision int64, text string, seen time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, Note{revision, seen, text})
	r.news.tell()
}

// Notes returns all notes, in the order in which they were added.
func (r *Record) Notes() []Note {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.notes)
}

// Next returns a channel that is closed when anything is added to the record.
func (r *Record) Next() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.news.wait()
}

// heardAt takes note of when something was added, and tells who waits for it.
func (r *Record) heardAt(seen time.Time) {
	r.heard = max(r.heard, seen.Sub(r.began))
	r.news.tell()
}

// news wakes those who wait for something new. It is used with its owner's mu held.
type news struct {
	next chan struct{} // nil when nobody waits
}

func (n *news) wait() <-chan struct{} {
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

func (n *news) tell() {
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}
