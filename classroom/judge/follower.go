package judge

import (
	"errors"
	"fmt"
	"sort"

	"example.com/etcd-by-example/classroom/history"
)

// Answer is what a follower of some keys said at once: the changes of one or more
// whole revisions, in order; or the present, which replaces all that came before; or,
// without any changes, that all up to a revision was told. Who prints one change at a
// time puts those of a revision together.
type Answer struct {
	// Present says that Changes are all the keys that there are at Revision, each
	// with its After.
	Present bool

	Revision int64 // of the present, or up to which all was told

	// Changes have the Revision, the Key, and After, with its value at least. An
	// After of nil says that the key was deleted. What is said beyond that has to be
	// right as well: what was there before, and all of a KeyValue that is not zero.
	Changes []history.Change
}

// NothingMissed returns what is wrong with what a follower of the keys said, which
// has known the keys as they were at from. It has to have told of each change up to
// to, unless it told of a present after that: none missing, none twice, none out of
// order, no revision in parts, and as etcd had it. The record has to reach as far as
// the follower has come.
func NothingMissed(r *history.Record, from, to int64, keys Keys, told []Answer) ([]Breach, error) {
	end := to
	for _, a := range told {
		end = max(end, a.Revision)
		for _, c := range a.Changes {
			end = max(end, c.Revision)
		}
	}
	changes, err := changesOf(r, from, end, keys)
	if err != nil {
		return nil, err
	}
	f := follower{keys: keys, changes: changes, told: make([]bool, len(changes)), at: from,
		index: map[place]int{}}
	for i, c := range changes {
		if err := errors.Join(whole(c.Before), whole(c.After)); err != nil {
			return nil, err
		}
		f.index[place{c.Revision, c.Key}] = i
	}
	for _, a := range told {
		switch {
		case a.Present:
			moment, err := r.At(a.Revision)
			if err != nil {
				return nil, err
			}
			if err := f.present(moment, a); err != nil {
				return nil, err
			}
		case len(a.Changes) == 0:
			f.missed(a.Revision, "is missing, though all up to revision %d is said to be told", a.Revision)
		default:
			f.changed(a.Changes)
		}
	}
	f.missed(to, "is missing at the end")
	return f.found, nil
}

// follower is how far a follower has come.
type follower struct {
	keys    Keys
	changes []history.Change // all that there are to tell
	index   map[place]int    // of changes
	told    []bool           // each of changes
	next    int              // before this one, all are told, missed or replaced
	at      int64            // the revision of what was told last
	found   []Breach
}

type place struct {
	revision int64
	key      string
}

func (f *follower) wrong(revision int64, key, why string, args ...any) {
	f.found = append(f.found, Breach{revision, key, fmt.Sprintf(why, args...)})
}

// missed finds what should have been told of up to a revision.
func (f *follower) missed(upTo int64, why string, args ...any) {
	for ; f.next < len(f.changes) && f.changes[f.next].Revision <= upTo; f.next++ {
		if c := f.changes[f.next]; !f.told[f.next] {
			f.wrong(c.Revision, c.Key, why, args...)
		}
	}
}

func (f *follower) present(moment *history.Moment, a Answer) error {
	if a.Revision < f.at {
		f.wrong(a.Revision, "", "is told as the present, after revision %d", f.at)
	}
	told := map[string]bool{}
	for _, c := range a.Changes {
		is := moment.Get(c.Key)
		switch {
		case told[c.Key]:
			f.wrong(a.Revision, c.Key, "is told twice in one present")
		case !f.keys(c.Key):
			f.wrong(a.Revision, c.Key, "is told of, and is none of the keys that are followed")
		case is == nil || c.After == nil || !agrees(c.After, is):
			f.wrong(a.Revision, c.Key, "is told as %s, and is %s", describe(c.After), describe(is))
		}
		told[c.Key] = true
	}
	for kv := range moment.Range("") {
		if !f.keys(kv.Key) {
			continue
		}
		if err := whole(kv); err != nil {
			return err
		}
		if !told[kv.Key] {
			f.wrong(a.Revision, kv.Key, "is missing in the present")
		}
	}
	f.at = a.Revision
	f.next = sort.Search(len(f.changes), func(i int) bool { return f.changes[i].Revision > a.Revision })
	return nil
}

func (f *follower) changed(changes []history.Change) {
	for _, c := range changes {
		i, happened := f.index[place{c.Revision, c.Key}]
		switch {
		case !f.keys(c.Key):
			f.wrong(c.Revision, c.Key, "is told of, and is none of the keys that are followed")
			continue
		case !happened && c.Revision <= f.at:
			f.wrong(c.Revision, c.Key, "is told of after revision %d", f.at)
			continue
		case !happened:
			f.wrong(c.Revision, c.Key, "is told of, and did not change")
			continue
		case f.told[i]:
			f.wrong(c.Revision, c.Key, "is told of twice")
			continue
		case i < f.next:
			f.wrong(c.Revision, c.Key, "comes too late, after revision %d", f.at)
			f.told[i] = true
			continue
		}
		f.missed(c.Revision-1, "is missing, and revision %d was told", c.Revision)
		f.at, f.told[i] = c.Revision, true
		is := f.changes[i]
		if !agrees(c.After, is.After) {
			f.wrong(c.Revision, c.Key, "is told as %s, and is %s", describe(c.After), describe(is.After))
		}
		if c.Before != nil && !agrees(c.Before, is.Before) {
			f.wrong(c.Revision, c.Key, "is told to have been %s, and was %s", describe(c.Before), describe(is.Before))
		}
	}
	f.missed(f.at, "is left out of what was told of its revision")
}

// agrees reports whether what was told of a key is right. Apart from the value, what
// is zero was not told.
func agrees(told, is *history.KeyValue) bool {
	if told == nil || is == nil {
		return told == is
	}
	same := func(told, is int64) bool { return told == 0 || told == is }
	return told.Value == is.Value && (told.Key == "" || told.Key == is.Key) && same(told.Create, is.Create) &&
		same(told.Mod, is.Mod) && same(told.Version, is.Version) && same(told.Lease, is.Lease)
}

func describe(kv *history.KeyValue) string {
	if kv == nil {
		return "no key"
	}
	return fmt.Sprintf("%q, created at %d, changed at %d, version %d, lease %x", kv.Value, kv.Create, kv.Mod, kv.Version, kv.Lease)
}
