package class

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"example.com/etcd-by-example/classroom/history"
)

// Entry is what the history of a class's etcd tells of a learner, of the teacher, or of
// the keys of all.
type Entry struct {
	Learner        // also of those who are away: Passed is what they had passed then
	Lesson  string // the last one whose keys they touched; empty when that is not known
	Bytes   int64  // of their keys, with the values
	Written int64  // bytes of all that they have put, as far as the history goes back
}

// Sheet is who was in a class after a revision, in the order of the names.
type Sheet struct {
	Learners        []Entry
	Common, Teacher Entry
}

// Here returns how many learners are there.
func (s Sheet) Here() int {
	count := 0
	for _, e := range s.Learners {
		if e.Here {
			count++
		}
	}
	return count
}

// Roster tells who is in a class, now and at any moment of a history. It follows the
// history: what it has read once, it does not read again.
type Roster struct {
	record *history.Record

	mu    sync.Mutex
	marks []*mark // on the way, in order; the last one moves on
}

// mark is a class as it was after a revision.
type mark struct {
	revision int64
	read     int // changes since the mark before it
	entries  map[string]*noted
}

// noted is an entry on the way.
type noted struct {
	Entry
	known   bool  // the name is given out
	touched int64 // the revision that Lesson is from
}

// marked is how many changes lie between two marks: so many are read for a moment of the
// past.
const marked = 4096

// NewRoster returns the roster of the class whose etcd a record is of.
func NewRoster(record *history.Record) *Roster { return &Roster{record: record} }

// Record returns the record that the roster follows.
func (r *Roster) Record() *history.Record { return r.record }

// At returns who was there after a revision. The error wraps history.ErrForgotten or
// history.ErrFuture.
func (r *Roster) At(revision int64) (Sheet, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		first := r.record.First()
		m, err := r.at(first, revision)
		if err == nil {
			return m.sheet(), nil
		}
		// A record that is still filled may have forgotten something meanwhile.
		if !errors.Is(err, history.ErrForgotten) || r.record.First() == first {
			return Sheet{}, err
		}
	}
}

// at returns the mark of a revision, in a record that knows all changes after the first
// one.
func (r *Roster) at(first, revision int64) (*mark, error) {
	if revision < first {
		return nil, fmt.Errorf("the class at revision %d: %w", revision, history.ErrForgotten)
	}
	for len(r.marks) > 0 && r.marks[0].revision < first {
		r.marks = r.marks[1:]
	}
	if len(r.marks) == 0 || revision < r.marks[0].revision {
		begin, err := r.begin(first)
		if err != nil {
			return nil, err
		}
		r.marks = slices.Insert(r.marks, 0, begin)
	}
	after := slices.IndexFunc(r.marks, func(m *mark) bool { return m.revision > revision })
	if after >= 0 {
		m := r.marks[after-1].clone()
		return m, m.follow(r.record, revision)
	}
	now := r.marks[len(r.marks)-1]
	for now.revision < revision {
		if err := now.follow(r.record, min(revision, now.revision+marked)); err != nil {
			return nil, err
		}
		if now.read >= marked {
			r.marks = slices.Insert(r.marks, len(r.marks)-1, now.clone())
			now.read = 0
		}
	}
	return now, nil
}

// begin returns the class as its keys alone tell it.
func (r *Roster) begin(revision int64) (*mark, error) {
	moment, err := r.record.At(revision)
	if err != nil {
		return nil, err
	}
	m := &mark{revision: revision, entries: map[string]*noted{}}
	for kv := range moment.Range("") {
		m.add(history.Change{Revision: kv.Mod, Key: kv.Key, After: kv})
	}
	for _, n := range m.entries {
		n.Written = 0
	}
	return m, nil
}

func (m *mark) clone() *mark {
	c := &mark{revision: m.revision, entries: maps.Clone(m.entries)}
	for name, n := range c.entries {
		copied := *n
		c.entries[name] = &copied
	}
	return c
}

// follow takes in what has changed up to a revision.
func (m *mark) follow(record *history.Record, to int64) error {
	changes, err := record.Changes(m.revision+1, to)
	if err != nil {
		return err
	}
	for _, c := range changes {
		m.add(c)
	}
	m.read += len(changes)
	m.revision = to
	return nil
}

// add takes in a change.
func (m *mark) add(c history.Change) {
	if name, found := strings.CutPrefix(c.Key, namesPrefix); found {
		n := m.of(name)
		n.known = c.After != nil
		n.Removed = n.known && c.After.Value == removed
		return
	}
	if name, found := strings.CutPrefix(c.Key, herePrefix); found {
		n := m.of(name)
		n.Here = c.After != nil
		if n.Here {
			n.Passed = strings.Fields(c.After.Value)
			n.Written += size(c.After)
		}
		return
	}
	name, key, found := strings.Cut(c.Key, ":")
	if !found {
		return
	}
	n := m.of(name)
	if c.Before != nil {
		n.Keys--
		n.Bytes -= size(c.Before)
	}
	if c.After != nil {
		n.Keys++
		n.Bytes += size(c.After)
		n.Written += size(c.After)
	}
	lesson := lessonOf(key)
	if name == Common && lesson == lockLesson && c.After != nil {
		// Who holds the lock of all, its value tells.
		if holder := m.entries[c.After.Value]; holder != nil {
			holder.touch(lesson, c.Revision)
		}
	}
	// Many a key goes without its owner: with its lease, or when the teacher deletes it.
	// Only one lesson is about deleting.
	if c.After != nil || lesson == deleteLesson {
		n.touch(lesson, c.Revision)
	}
}

func (m *mark) of(name string) *noted {
	n := m.entries[name]
	if n == nil {
		n = &noted{}
		n.Name = name
		m.entries[name] = n
	}
	return n
}

func (n *noted) touch(lesson string, revision int64) {
	if lesson != "" && revision >= n.touched {
		n.Lesson, n.touched = lesson, revision
	}
}

func size(kv *history.KeyValue) int64 { return int64(len(kv.Key) + kv.Size) }

func (m *mark) sheet() Sheet {
	var s Sheet
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		switch n := m.entries[name]; {
		case name == Common:
			s.Common = n.Entry
		case name == Teacher:
			s.Teacher = n.Entry
		case n.known:
			s.Learners = append(s.Learners, n.Entry)
		}
	}
	return s
}

const (
	deleteLesson = "04-delete"
	lockLesson   = "08-txn-lock"
)

// lessons are the keys of each lesson, by how they begin. Lesson 01 only reads its key:
// the page has it put before.
var lessons = []struct{ begin, lesson string }{
	{"/cron/jobs/job1", "01-connect"},
	{"/cron/jobs/put/", "02-put"},
	{"/cron/jobs/get", "03-get"},
	{"/cron/jobs/delete", deleteLesson},
	{"/cron/jobs/lease/", "05-lease"},
	{"/cron/jobs/watch/", "06-watch"},
	{"/cron/jobs/op/", "07-op"},
	{"/cron/jobs/job9", lockLesson},
	{"/cron/lock/", lockLesson},
}

// lessonOf returns the lesson that a key belongs to, or nothing.
func lessonOf(key string) string {
	for _, l := range lessons {
		if strings.HasPrefix(key, l.begin) {
			return l.lesson
		}
	}
	return ""
}

// Shown returns what anybody may see of a value in a class's etcd: all of it, but for the
// hash of the key to which a name belongs.
func Shown(key, value string) string {
	if strings.HasPrefix(key, namesPrefix) && value != removed {
		return ""
	}
	return value
}

// Inner reports whether a key is none of those that people write, but the class's own.
func Inner(key string) bool { return strings.HasPrefix(key, innerPrefix) }

// OfDesk reports whether a key says only that a desk is there.
func OfDesk(key string) bool { return strings.HasPrefix(key, herePrefix) }
