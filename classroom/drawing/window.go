package drawing

import (
	"fmt"
	"slices"
	"strings"

	"example.com/etcd-by-example/classroom/history"
)

// window is what a drawing needs to know of a record.
type window struct {
	from, to int64
	known    int64 // what changed after this revision is known
	changes  []history.Change
	packed   []int64 // the revisions that have a column, when not all have
	bars     []*bar
	notes    []history.Note
}

// bar is a lease, for as long as it holds a key.
type bar struct {
	name     string
	from, to int64
	fromLeft bool // it held one before the window
	toRight  bool // it holds one at its end
	ending   history.Ending
}

// read reads the window of a record that reaches back to the revision known.
func read(record *history.Record, known int64, o Options) (*window, error) {
	w := &window{from: o.From, to: o.To, known: known}
	if w.to == 0 {
		w.to = record.Last()
	}
	if o.Packed {
		if err := w.pack(record, o); err != nil {
			return nil, err
		}
	}
	if w.from == 0 {
		w.from = min(w.to, max(known+1, w.to-199))
	}
	if columns := w.to - w.from + 1; columns < 1 || columns > mostColumns {
		return nil, fmt.Errorf("from revision %d to %d: want 1 to %d revisions", w.from, w.to, mostColumns)
	}
	if !o.Packed {
		var err error
		if w.changes, err = record.Changes(max(w.from, known+1), w.to); err != nil {
			return nil, err
		}
		w.changes = slices.DeleteFunc(w.changes, func(c history.Change) bool { return !o.shows(c.Key) })
	}
	for _, n := range record.Notes() {
		if n.Revision >= w.from-1 && n.Revision <= w.to {
			w.notes = append(w.notes, n)
		}
	}
	leased := func(c history.Change) bool { return leaseOf(c.Before) != 0 || leaseOf(c.After) != 0 }
	if slices.ContainsFunc(w.changes, leased) {
		if err := w.readLeases(record, o.LeaseName); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// shows reports whether a key has a lane.
func (o Options) shows(key string) bool {
	return strings.HasPrefix(key, o.Prefix) && (o.Hidden == nil || !o.Hidden(key))
}

// packedFrom is how many changes are looked through for those that are packed.
const packedFrom = 50_000

// pack finds the last changes of the keys with the prefix.
func (w *window) pack(record *history.Record, o Options) error {
	back, err := record.Back(w.to)
	if err != nil {
		return err
	}
	w.packed = []int64{}
	looked := 0
	for c := range back {
		if looked++; looked > packedFrom {
			break
		}
		if !o.shows(c.Key) {
			continue
		}
		if count := len(w.packed); count == 0 || w.packed[count-1] != c.Revision {
			if count == o.Columns {
				break
			}
			w.packed = append(w.packed, c.Revision)
		}
		w.changes = append(w.changes, c)
	}
	slices.Reverse(w.packed)
	slices.Reverse(w.changes)
	w.from = w.to
	if len(w.packed) > 0 {
		w.from = w.packed[0]
	}
	return nil
}

// columns returns how many there are.
func (w *window) columns() int {
	if w.packed != nil {
		return max(1, len(w.packed))
	}
	return int(w.to - w.from + 1)
}

// column returns which one a revision has, or the one before it.
func (w *window) column(revision int64) int {
	if w.packed != nil {
		after, _ := slices.BinarySearch(w.packed, revision+1)
		return max(0, after-1)
	}
	return int(max(w.from, min(revision, w.to)) - w.from)
}

// readLeases finds out which leases hold keys when.
func (w *window) readLeases(record *history.Record, name func(int64) string) error {
	before, err := holding(record, w.changes[0].Revision-1)
	if err != nil {
		return err
	}
	after, err := holding(record, w.to)
	if err != nil {
		return err
	}
	alive := map[int64]*bar{}
	of := func(lease, revision int64, attaches bool) *bar {
		b := alive[lease]
		if b == nil {
			b = &bar{from: revision, to: revision, fromLeft: !attaches || before[lease]}
			if name != nil {
				b.name = start(name(lease), 60)
			} else {
				b.name = "lease " + letters(len(w.bars))
			}
			alive[lease] = b
			w.bars = append(w.bars, b)
		}
		return b
	}
	ended := map[int64]history.Ending{}
	for i, c := range w.changes {
		is, was := leaseOf(c.After), leaseOf(c.Before)
		if was != 0 {
			of(was, c.Revision, false).to = c.Revision
			ended[was] = c.Ended
		}
		if is != 0 {
			of(is, c.Revision, true)
		}
		if i+1 < len(w.changes) && w.changes[i+1].Revision == c.Revision {
			continue
		}
		for lease, ending := range ended {
			if ending != history.Alive {
				alive[lease].ending = ending
				delete(alive, lease)
				delete(before, lease) // The same ID may be granted again.
			}
		}
		clear(ended)
	}
	for lease, b := range alive {
		b.toRight = after[lease]
	}
	return nil
}

// holding returns which leases hold keys after a revision.
func holding(record *history.Record, revision int64) (map[int64]bool, error) {
	moment, err := record.At(revision)
	if err != nil {
		return nil, err
	}
	leases := map[int64]bool{}
	for _, l := range moment.Leases() {
		if l.Ended == history.Alive && len(l.Keys) > 0 {
			leases[l.ID] = true
		}
	}
	return leases, nil
}

func leaseOf(kv *history.KeyValue) int64 {
	if kv == nil {
		return 0
	}
	return kv.Lease
}

// letters returns A, B, …, Z, AA, AB, … for 0, 1, …
func letters(n int) string {
	if n < 26 {
		return string(rune('A' + n))
	}
	return letters(n/26-1) + letters(n%26)
}

// laneKeys returns the keys that have a lane of their own, in order, and whether
// others have changed as well.
func (w *window) laneKeys(most int) (keys []string, others bool) {
	found := map[string]bool{}
	for _, c := range slices.Backward(w.changes) {
		if !found[c.Key] {
			found[c.Key] = true
			keys = append(keys, c.Key)
		}
	}
	if len(keys) > most {
		keys, others = keys[:most-1], true
	}
	slices.Sort(keys)
	return keys, others
}

// isLock reports whether a key is a lock, which whoever creates it holds.
func (o Options) isLock(kv *history.KeyValue) bool {
	key := kv.Key
	if o.Owners {
		_, key, _ = strings.Cut(key, ":")
	}
	return strings.HasPrefix(key, o.Locks) && !Queued(kv)
}

// Queued reports whether a key may be that of one who waits for a lock of etcd's package
// concurrency: such keys end with their lease.
func Queued(kv *history.KeyValue) bool {
	return strings.HasSuffix(kv.Key, fmt.Sprintf("/%x", uint64(kv.Lease)))
}
