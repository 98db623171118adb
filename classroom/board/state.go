package board

import (
	"bytes"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// What the board remembers, at most.
const (
	keptChanges = 5000  // of the history; older ones are forgotten
	keptKeys    = 10000 // of the present
	keptValue   = 4096  // bytes of each value
	keptLeases  = 100   // that are alive
	keptHolders = 12    // former holders of locks
	keptRefused = 4     // stale writes

	// goneFor is how long a lease that has ended stays in sight.
	goneFor = 6 * time.Second
)

// lockPrefix and jobPrefix are where lesson 08 keeps its lock and its result.
const (
	lockPrefix = "/cron/lock/"
	jobPrefix  = "/cron/jobs/"
)

// kind says what happened to a key. The page calls it so, too.
type kind string

const (
	created  kind = "created"
	replaced kind = "put"
	deleted  kind = "deleted"
	expired  kind = "expired" // its lease reached its end
	revoked  kind = "revoked" // its lease was revoked before
	byLease  kind = "ended"   // its lease ended, and nobody knows how
)

// change is one key's part in one revision.
type change struct {
	revision int64
	key      string
	kind     kind
	before   *value // nil when there was none, or when it is not known
	after    *value // nil when the key was deleted
	lease    int64  // that the key had; for a put, that it has
	at       time.Time
	alone    bool // deleted while its lease lived on
}

// lane is a key that has a line of its own on the timeline, and the revision that
// it changed at.
type lane struct {
	key  string
	last int64
}

// value is the beginning of a value, shared by all who show it.
type value struct {
	start []byte
	size  int
}

func newValue(raw []byte) *value {
	if len(raw) > keptValue {
		return &value{bytes.Clone(raw[:keptValue]), len(raw)}
	}
	return &value{raw, len(raw)}
}

// item is a key as it is now.
type item struct {
	key                  string
	value                *value
	version, create, mod int64
	lease                int64
	row                  template.HTML // its row of the table, once it is rendered
}

func newItem(kv *mvccpb.KeyValue) *item {
	return &item{key: string(kv.Key), value: newValue(kv.Value), version: kv.Version,
		create: kv.CreateRevision, mod: kv.ModRevision, lease: kv.Lease}
}

// lease is what is known of a lease. The server tells whole seconds only: its
// end lies between early and late, which each answer brings closer together.
type lease struct {
	id          int64
	granted     int64
	early, late time.Time // both zero when it was never asked for
	renewals    int
	gone        time.Time // zero while it is alive
	how         kind      // how it went, when it is gone
	took        []string  // the keys that went along
}

// left returns how many seconds it lives, as far as is known.
func (l *lease) left(now time.Time) float64 {
	if l.early.IsZero() || !l.gone.IsZero() {
		return 0
	}
	return max(0, l.early.Add(l.late.Sub(l.early)/2).Sub(now).Seconds())
}

// bar returns what is left of a lease, in seconds: for its bar, and for people.
func (l *lease) bar(now time.Time) (exact string, whole int64) {
	left := min(l.left(now), float64(l.granted))
	return fmt.Sprintf("%.1f", left), int64(left + 0.5)
}

// seen takes in that the server said, between two times, that so many whole
// seconds remain.
func (l *lease) seen(asked, got time.Time, granted, remaining int64) {
	early := asked.Add(time.Duration(remaining) * time.Second)
	late := got.Add(time.Duration(remaining+1) * time.Second)
	if remaining == 0 && granted > 1 && !l.early.IsZero() {
		// It may be over already: etcd looks for such leases twice a second.
		early = l.early
	}
	const inexact = 50 * time.Millisecond
	switch {
	case l.early.IsZero():
		l.early, l.late = early, late
	case early.After(l.late.Add(inexact)):
		l.renewals++
		l.early, l.late = early, late
	case late.Before(l.early.Add(-inexact)):
		l.early, l.late = early, late // Somebody's clock has jumped.
	default:
		if early.After(l.early) {
			l.early = early
		}
		if late.Before(l.late) {
			l.late = late
		}
		if l.late.Before(l.early) {
			l.late = l.early
		}
	}
	l.granted = granted
}

// ending says how the lease ended, from the time at which it did. To etcd's
// history a lease that was revoked looks like one that has expired.
func (l *lease) ending(at time.Time) kind {
	switch {
	case l.early.IsZero():
		return byLease
	case at.Before(l.early):
		return revoked
	case at.After(l.late), l.late.Sub(l.early) < 600*time.Millisecond:
		return expired
	default:
		return byLease
	}
}

// holder is somebody who held a lock.
type holder struct {
	key   string
	name  *value
	token int64
	until int64 // the revision at which it ended
	how   kind
	by    int64 // the lease that the lock had
}

// refusal is a write that came too late: with the token of a lock that another
// holds by now, or nobody.
type refusal struct {
	key      string
	token    int64
	current  int64 // the lock's token at the time, 0 when it was free
	revision int64 // at which it was written all the same; 0 when it was refused
	who      string
}

// state is the board's picture of etcd. It is not etcd: what is too much for a
// page is cut or forgotten.
type state struct {
	mu       sync.Mutex
	begun    int   // how often it began anew; what was asked of etcd before is out of date
	revision int64 // 0 before the first reading
	started  int64 // the revision of that reading: the history begins after it
	keys     map[string]*item
	sorted   []string // the names in keys, in order
	total    int64    // the keys in etcd, also those that are not in keys
	history  []change
	lanes    []lane // of the timeline, at most laneCount-1
	leases   map[int64]*lease
	order    []int64 // of leases, as they appeared
	further  int     // leases that are alive and not in leases
	attached map[int64]map[string]bool
	unsure   map[int64]time.Time // leases whose keys were deleted then: gone or not?
	holders  []holder            // the latest last
	refused  []refusal           // the latest last
	dirty    map[string]bool
	wake     chan struct{} // tells that dirty has something
}

func newState() *state {
	s := &state{dirty: map[string]bool{}, wake: make(chan struct{}, 1)}
	s.clear()
	return s
}

// clear is called with mu held.
func (s *state) clear() {
	s.begun++
	s.revision, s.started, s.total, s.further = 0, 0, 0, 0
	s.keys, s.sorted = map[string]*item{}, nil
	s.history, s.lanes, s.order = nil, nil, nil
	s.leases, s.attached = map[int64]*lease{}, map[int64]map[string]bool{}
	s.unsure = map[int64]time.Time{}
	s.holders, s.refused = nil, nil
}

// touch is called with mu held.
func (s *state) touch(panels ...string) {
	for _, panel := range panels {
		s.dirty[panel] = true
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// seen returns the last revision that was seen, or 0, and how often the state has
// begun anew: who asks etcd for something hands that number in with the answer.
func (s *state) seen() (begun int, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun, s.revision
}

// empty starts anew with a store in which nothing has happened yet.
func (s *state) empty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.revision, s.started = 1, 1
	s.touch(panelRevision, panelTimeline, panelKeys, panelLeases, panelLock)
}

// reset starts anew with a reading of the whole store, unless that has happened
// since it was asked for. Then it returns false.
func (s *state) reset(begun int, revision, total int64, items []*item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begun != s.begun {
		return false
	}
	s.clear()
	s.revision, s.started, s.total = revision, revision, total
	for _, made := range items {
		if len(s.keys) < keptKeys {
			s.set(made)
			s.sorted = append(s.sorted, made.key)
		}
	}
	s.touch(panelRevision, panelTimeline, panelKeys, panelLeases, panelLock)
	return true
}

// set is called with mu held. It returns the item as it was, or nil.
func (s *state) set(made *item) *item {
	old := s.keys[made.key]
	if old != nil {
		s.detach(old)
	}
	s.keys[made.key] = made
	if made.lease != 0 {
		if s.attached[made.lease] == nil {
			s.attached[made.lease] = map[string]bool{}
		}
		s.attached[made.lease][made.key] = true
	}
	return old
}

func (s *state) detach(old *item) {
	delete(s.attached[old.lease], old.key)
	if len(s.attached[old.lease]) == 0 {
		delete(s.attached, old.lease)
	}
}

// apply takes in what the watch has seen. It reports whether a lease turned up
// that is not known, or might have ended.
func (s *state) apply(begun int, events []*clientv3.Event, now time.Time) (asks bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begun != s.begun {
		return false
	}
	for _, event := range events {
		kv := event.Kv
		if kv.ModRevision < s.revision {
			continue
		}
		s.revision = kv.ModRevision
		if event.Type == mvccpb.Event_DELETE {
			asks = s.remove(kv, now) || asks
		} else {
			asks = s.put(kv, now) || asks
		}
	}
	if extra := len(s.history) - keptChanges; extra > keptChanges/4 {
		s.history = slices.Delete(s.history, 0, extra)
	}
	if len(events) > 0 {
		s.touch(panelRevision, panelTimeline, panelKeys)
	}
	return asks
}

func (s *state) put(kv *mvccpb.KeyValue, now time.Time) (asks bool) {
	current := newItem(kv)
	key := current.key
	made := change{revision: kv.ModRevision, key: key, kind: replaced,
		after: current.value, lease: kv.Lease, at: now}
	if old := s.keys[key]; old != nil {
		made.before = old.value
		s.set(current)
	} else if len(s.keys) < keptKeys {
		at, _ := slices.BinarySearch(s.sorted, key)
		s.sorted = slices.Insert(s.sorted, at, key)
		s.set(current)
	}
	if kv.Version == 1 {
		s.total++
		made.kind, made.before = created, nil
	}
	s.add(made)
	if strings.HasPrefix(key, lockPrefix) {
		s.touch(panelLock)
	}
	s.checkResult(made)
	if kv.Lease == 0 {
		return false
	}
	s.touch(panelLeases)
	return s.leases[kv.Lease] == nil
}

func (s *state) remove(kv *mvccpb.KeyValue, now time.Time) (asks bool) {
	key := string(kv.Key)
	made := change{revision: kv.ModRevision, key: key, kind: deleted, at: now}
	s.total--
	if old := s.keys[key]; old != nil {
		made.key, made.before, made.lease = old.key, old.value, old.lease
		s.detach(old)
		delete(s.keys, key)
		if at, found := slices.BinarySearch(s.sorted, key); found {
			s.sorted = slices.Delete(s.sorted, at, at+1)
		}
		if strings.HasPrefix(key, lockPrefix) {
			s.holders = append(s.holders, holder{key: key, name: old.value,
				token: old.create, until: kv.ModRevision, how: deleted, by: old.lease})
			s.holders = s.holders[max(0, len(s.holders)-keptHolders):]
			s.touch(panelLock)
		}
	}
	s.add(made)
	if made.lease == 0 {
		return false
	}
	s.unsure[made.lease] = now
	s.touch(panelLeases)
	return true
}

// add is called with mu held.
func (s *state) add(made change) {
	s.history = append(s.history, made)
	// A new key takes the lane of the one that has been quiet for longest.
	quiet := 0
	for i, lane := range s.lanes {
		if lane.key == made.key {
			s.lanes[i].last = made.revision
			return
		}
		if lane.last < s.lanes[quiet].last {
			quiet = i
		}
	}
	if len(s.lanes) < laneCount-1 {
		s.lanes = append(s.lanes, lane{made.key, made.revision})
	} else {
		s.lanes[quiet] = lane{made.key, made.revision}
	}
}

var resultText = regexp.MustCompile(`^done by (.{1,100}), token (\d{1,18})$`)

// checkResult looks whether a result of lesson 08 was written by somebody who
// did not hold the lock: that is what happens with -guard=false.
func (s *state) checkResult(made change) {
	job, found := strings.CutPrefix(made.key, jobPrefix)
	if !found {
		return
	}
	parts := resultText.FindSubmatch(made.after.start)
	if parts == nil {
		return
	}
	token, err := strconv.ParseInt(string(parts[2]), 10, 64)
	if err != nil {
		return
	}
	var current int64
	if lock := s.keys[lockPrefix+job]; lock != nil {
		current = lock.create
	}
	if token != current {
		s.refuse(refusal{key: made.key, token: token, current: current,
			revision: made.revision, who: string(parts[1])})
	}
}

func (s *state) refuse(r refusal) {
	s.refused = append(s.refused, r)
	s.refused = s.refused[max(0, len(s.refused)-keptRefused):]
	s.touch(panelLock)
}

var refusedText = regexp.MustCompile(
	`put (/cron/jobs/\S{1,200}): token (\d{1,18}) is stale, the lock was lost`)

// note takes in a line that a lesson has printed. That a write was refused can
// be learnt in no other way: it leaves no trace in etcd.
func (s *state) note(line string) {
	parts := refusedText.FindStringSubmatch(line)
	if parts == nil {
		return
	}
	token, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := refusal{key: parts[1], token: token}
	if lock := s.keys[lockPrefix+strings.TrimPrefix(r.key, jobPrefix)]; lock != nil {
		r.current = lock.create
	}
	for _, h := range s.holders {
		if h.token == token {
			r.who = string(h.name.start)
		}
	}
	s.refuse(r)
}

// answerTo is what the server said of a lease: remaining is -1 when it is gone.
type answerTo struct {
	id, granted, remaining int64
	asked, got             time.Time
}

// toAsk returns the leases to ask for, of those that the server lists: those
// whose keys went, and all that are shown.
func (s *state) toAsk(begun int, alive []int64, limit int) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begun != s.begun {
		return nil
	}
	var ids []int64
	for id := range s.unsure {
		ids = append(ids, id)
	}
	for _, id := range alive {
		if s.leases[id] == nil && len(s.leases) < keptLeases {
			s.leases[id] = &lease{id: id}
			s.order = append(s.order, id)
		}
	}
	s.further = 0
	for _, id := range alive {
		switch {
		case s.leases[id] == nil:
			s.further++
		case s.unsure[id].IsZero():
			ids = append(ids, id)
		}
	}
	// Those that were asked for least lately come first.
	slices.SortStableFunc(ids, func(a, b int64) int {
		return s.lastAsked(a).Compare(s.lastAsked(b))
	})
	return ids[:min(limit, len(ids))]
}

func (s *state) lastAsked(id int64) time.Time {
	if l := s.leases[id]; l != nil && s.unsure[id].IsZero() {
		return l.early.Add(-time.Duration(l.granted) * time.Second)
	}
	return time.Time{}
}

// answered takes in what the server said of leases at a time, and which ones
// are alive. Those that are gone stay in sight for a while.
func (s *state) answered(begun int, now time.Time, alive []int64, answers []answerTo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begun != s.begun {
		return
	}
	listed := map[int64]bool{}
	for _, id := range alive {
		listed[id] = true
	}
	for _, answer := range answers {
		l := s.leases[answer.id]
		if answer.remaining < 0 {
			// As long as it has keys it is not gone: their end is still to come.
			if len(s.attached[answer.id]) == 0 {
				s.end(answer.id, now)
			}
			continue
		}
		// Asked for before the keys went, it tells nothing.
		if since := s.unsure[answer.id]; !since.IsZero() && answer.asked.After(since) {
			delete(s.unsure, answer.id)
			for i := range s.history {
				if s.history[i].lease == answer.id && s.history[i].kind == deleted {
					s.history[i].alone = true
				}
			}
		}
		if l != nil {
			l.seen(answer.asked, answer.got, answer.granted, answer.remaining)
		}
	}
	for id, l := range s.leases {
		if l.gone.IsZero() && !listed[id] && len(s.attached[id]) == 0 {
			s.end(id, now)
		}
		if !l.gone.IsZero() && now.Sub(l.gone) > goneFor {
			delete(s.leases, id)
			s.order = slices.DeleteFunc(s.order, func(other int64) bool { return other == id })
		}
	}
	s.touch(panelLeases)
	if len(s.leases) > 0 {
		s.touch(panelLock)
	}
}

// end marks a lease as gone, and the deletions that it caused.
func (s *state) end(id int64, now time.Time) {
	l := s.leases[id]
	if l == nil {
		l = &lease{id: id}
		if len(s.leases) < keptLeases {
			s.leases[id] = l
			s.order = append(s.order, id)
		}
	}
	if !l.gone.IsZero() {
		delete(s.unsure, id)
		return
	}
	l.gone = now
	// All that it took along went in its last revision.
	var revision int64
	for i := len(s.history) - 1; i >= 0; i-- {
		made := &s.history[i]
		if made.lease != id || made.kind != deleted || made.alone ||
			revision > made.revision {
			continue
		}
		if revision == 0 {
			revision, l.gone = made.revision, made.at
			l.how = l.ending(made.at)
		}
		made.kind = l.how
		l.took = append(l.took, made.key)
	}
	if revision == 0 {
		l.how = l.ending(now)
	}
	for i := range s.holders {
		if s.holders[i].by == id && s.holders[i].until == revision {
			s.holders[i].how = l.how
		}
	}
	delete(s.unsure, id)
	s.touch(panelTimeline, panelLeases, panelLock)
}

// since returns where in the history the changes from a revision on begin. It is
// called with mu held.
func (s *state) since(revision int64) int {
	at, _ := slices.BinarySearchFunc(s.history, revision,
		func(made change, revision int64) int { return int(made.revision - revision) })
	return at
}

// at returns the changes of one revision, as far as they are remembered.
func (s *state) at(revision int64) []change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.history[s.since(revision):s.since(revision+1)])
}

// name returns how a lease is called: the 16 digits of etcdctl.
func leaseName(id int64) string { return fmt.Sprintf("%016x", uint64(id)) }
