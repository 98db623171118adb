package board

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/history"
)

// Class acts on those who share an etcd.
type Class interface {
	Remove(ctx context.Context, name string) error
	Free(ctx context.Context, name string) error
	Reset(ctx context.Context, name string) (int64, error)
	Room(ctx context.Context) error
}

// classLimit is how long an action may take, so that its answer still reaches the page.
const classLimit = 25 * time.Second

// isClass reports whether what the board shows is of a class.
func (b *Board) isClass() bool {
	if b.config.Saved == nil {
		return b.config.Class != nil
	}
	sheet, err := class.NewRoster(b.config.Saved).At(b.config.Saved.Last())
	return err == nil && len(sheet.Learners) > 0
}

// scene returns what there is to show of a moment.
func (b *Board) scene(record *history.Record, moment *history.Moment) scene {
	s := scene{record: record, moment: moment}
	if !b.class {
		return s
	}
	b.mu.Lock()
	if b.roster == nil || b.roster.Record() != record {
		b.roster = class.NewRoster(record)
	}
	s.roster = b.roster
	b.mu.Unlock()
	// What is not known of it stays empty.
	s.sheet, _ = s.roster.At(moment.Revision)
	return s
}

// split returns what stands before a key to say whose it is, and what they call it.
func (s scene) split(key string) (owner, own string) {
	if s.roster == nil {
		return "", key
	}
	at := strings.Index(key, ":") + 1
	return key[:at], key[at:]
}

// hidden tells which keys are not shown: in a class its own, unless they are asked for.
func (s scene) hidden() func(key string) bool {
	if s.roster == nil || s.prefix != "" {
		return nil
	}
	return class.Inner
}

// owners returns what stands before all keys: nothing, or in a class that of each.
func (s scene) owners() []string {
	if s.roster == nil {
		return []string{""}
	}
	all := []string{class.Prefix(class.Common), class.Prefix(class.Teacher)}
	for _, e := range s.sheet.Learners {
		all = append(all, class.Prefix(e.Name))
	}
	return all
}

// mine returns what stands before the keys of the lessons that run on the board.
func (s scene) mine() string {
	if s.roster == nil {
		return ""
	}
	return class.Prefix(class.Teacher)
}

// learnerView is one row of the roster.
type learnerView struct {
	class.Entry
	State, Mark   string
	Count         string // of the exercises passed
	Size, Written string
}

// The states of a learner, with their marks.
const (
	stateHere    = "here"
	stateAway    = "away"
	stateRemoved = "removed"
)

var marks = map[string]string{stateHere: "●", stateAway: "○", stateRemoved: "✕"}

func stateIn(e class.Entry) string {
	switch {
	case e.Removed:
		return stateRemoved
	case e.Here:
		return stateHere
	default:
		return stateAway
	}
}

func newLearnerView(e class.Entry) learnerView {
	state := stateIn(e)
	v := learnerView{Entry: e, State: state, Mark: marks[state], Size: narrow(e.Bytes), Written: narrow(e.Written)}
	// What a desk writes, somebody may write by hand.
	v.Passed = nil
	for _, exercise := range check.Exercises {
		if slices.Contains(e.Passed, exercise.Name) {
			v.Passed = append(v.Passed, exercise.Name)
		}
	}
	if len(v.Passed) > 0 {
		v.Count = fmt.Sprintf("%d/%d", len(v.Passed), len(check.Exercises))
	}
	return v
}

// narrow is bytesOf for a narrow column.
func narrow(size int64) string { return strings.Replace(bytesOf(size), "bytes", "B", 1) }

// rosterView is the roster: first the keys of all and the teacher's, which have no state.
type rosterView struct {
	First    []learnerView
	Learners []learnerView
}

func (s scene) rosterView() rosterView {
	var view rosterView
	for _, e := range []class.Entry{s.sheet.Common, s.sheet.Teacher} {
		if e.Name != "" {
			view.First = append(view.First, newLearnerView(e))
		}
	}
	for _, e := range s.sheet.Learners {
		view.Learners = append(view.Learners, newLearnerView(e))
	}
	return view
}

// classView is a class as a whole.
type classView struct {
	States  []stateView
	Lock    []holderView // of the whole class
	Waiting int          // at most
	Store   storeView
	Leader  string
	Handles bool
}

type stateView struct {
	State string
	Count int
}

// storeView is the size of the database, and what it may grow to.
type storeView struct {
	Size, Quota       int64
	SizeText, OfQuota string
	Full              bool
	Most, MostWritten string // who has written most
}

func (s scene) classView(handles bool) classView {
	view := classView{Handles: handles, Store: s.store()}
	counts := map[string]int{}
	for _, e := range s.sheet.Learners {
		counts[stateIn(e)]++
	}
	for _, state := range []string{stateHere, stateAway, stateRemoved} {
		if counts[state] > 0 {
			view.States = append(view.States, stateView{state, counts[state]})
		}
	}
	leases := s.leasesByID()
	for _, l := range leases {
		// Who waits for a lock as lesson 08 does, has a lease and no key yet.
		if l.Ended == history.Alive && len(l.Keys) == 0 {
			view.Waiting++
		}
	}
	for kv := range s.moment.Range(class.Prefix(class.Common) + lockPrefix) {
		if !drawing.Queued(kv) && len(view.Lock) < shownCommon {
			view.Lock = append(view.Lock, s.holder(kv, leases))
		}
	}
	view.Leader = leader(s.moment)
	return view
}

// leader returns the member that led then, or nothing.
func leader(moment *history.Moment) string {
	for _, m := range moment.Members {
		if m.Role == history.Leader {
			return m.Name
		}
	}
	return ""
}

// shownCommon is how many locks of the whole class are shown on top.
const shownCommon = 3

// store returns what the members tell of the database. The largest is the one that
// reaches its quota first.
func (s scene) store() storeView {
	var view storeView
	for _, m := range s.moment.Members {
		if m.Role.Answers() {
			view.Full = view.Full || m.Full
			if m.Size >= view.Size {
				view.Size, view.Quota = m.Size, m.Quota
			}
		}
	}
	view.SizeText = bytesOf(view.Size)
	if view.Quota > 0 {
		view.OfQuota = bytesOf(view.Quota)
	}
	all := append([]class.Entry{s.sheet.Common, s.sheet.Teacher}, s.sheet.Learners...)
	most := slices.MaxFunc(all, func(a, b class.Entry) int { return int(a.Written - b.Written) })
	if most.Written > 0 {
		view.Most, view.MostWritten = most.Name, bytesOf(most.Written)
	}
	return view
}

// since returns when a lock was taken, as far as that is remembered.
func (s scene) since(lock *history.KeyValue) string {
	changes, err := s.record.Changes(lock.Create, lock.Create)
	if err != nil || len(changes) == 0 {
		return ""
	}
	return changes[0].Seen.Format(time.TimeOnly)
}

// handleClass does to the class, or to a learner, what a button asks for.
func (b *Board) handleClass(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(b.ctx, classLimit)
	defer cancel()
	name := r.PathValue("name")
	var err error
	switch action := r.PathValue("action"); {
	case action == "room" && name == "":
		err = b.config.Class.Room(ctx)
	case action == "remove" && name != "":
		err = b.config.Class.Remove(ctx, name)
	case action == "free" && name != "":
		err = b.config.Class.Free(ctx, name)
	case action == "reset" && name != "":
		_, err = b.config.Class.Reset(ctx, name)
	default:
		http.Error(w, fmt.Sprintf("no action %.50q on a class", action), http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
