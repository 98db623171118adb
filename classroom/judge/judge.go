// Package judge looks in a history.Record for where promises were broken: that a lock
// has one holder at a time, that writes are fenced by its token, that keys always have
// a lease, that each item was done exactly once, and that a follower missed nothing.
//
// Each judge looks at the store as it was at one revision, and at each change from
// there to another. What the record does not hold of that is an error that wraps
// history.ErrForgotten or history.ErrFuture, and no breach: nothing is known then. A
// new etcd is at revision 1, so who judges from there on judges all that it ever did.
package judge

import (
	"errors"
	"fmt"
	"strings"

	"example.com/etcd-by-example/classroom/history"
)

// Breach is where a promise was broken.
type Breach struct {
	Revision int64
	Key      string // "" when it is about no single key
	Why      string
}

func (b Breach) String() string {
	return fmt.Sprintf("revision %d: %s", b.Revision, strings.TrimSpace(b.Key+" "+b.Why))
}

// Keys reports whether a promise is about a key.
type Keys func(key string) bool

// Key stands for one key.
func Key(key string) Keys {
	return func(other string) bool { return other == key }
}

// Prefix stands for all keys that begin with prefix. As in etcd, "/jobs/1" takes in
// "/jobs/10", and "" all keys.
func Prefix(prefix string) Keys {
	return func(key string) bool { return strings.HasPrefix(key, prefix) }
}

// OneHolder returns where somebody took a lock that another had. Each of the keys is
// a lock of its own: to create it is to take the lock, its create revision is the
// token, which therefore grows from holder to holder, and to delete it is to release
// the lock. Any put of a lock that is there is a breach: whoever made it could not
// know from etcd that nobody else had the lock.
func OneHolder(r *history.Record, from, to int64, locks Keys) (found []Breach, err error) {
	changes, err := changesOf(r, from, to, locks)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		if c.Before != nil && c.After != nil {
			found = append(found, Breach{c.Revision, c.Key, fmt.Sprintf("has two holders: %q takes it from %q, which has token %d",
				c.After.Value, c.Before.Value, c.Before.Create)})
		}
	}
	return found, nil
}

// Fenced returns which puts of the keys were made with a token other than that of the
// lock's holder. For each put, claim returns the key of the lock that it needs, and
// the token that it names, 0 for none: that is a breach as well. What counts is the
// store that the put has met, so one transaction may write and release the lock.
func Fenced(r *history.Record, from, to int64, keys Keys,
	claim func(*history.KeyValue) (lock string, token int64)) (found []Breach, err error) {
	changes, err := changesOf(r, from, to, Prefix(""))
	if err != nil {
		return nil, err
	}
	before, err := r.At(from)
	if err != nil {
		return nil, err
	}
	tokens := map[string]int64{} // of all keys: the create revisions
	for kv := range before.Range("") {
		tokens[kv.Key] = kv.Create
	}
	highest := map[string]int64{} // with which was written under each lock
	for len(changes) > 0 {
		var together []history.Change
		together, changes = oneRevision(changes)
		for _, c := range together {
			if c.After == nil || !keys(c.Key) {
				continue
			}
			if err := whole(c.After); err != nil {
				return nil, err
			}
			lock, token := claim(c.After)
			holder := tokens[lock]
			if token != holder || token == 0 {
				why := fmt.Sprintf("is written with token %d, and token %d has %s", token, holder, lock)
				if holder == 0 {
					why = fmt.Sprintf("is written with token %d, and nobody has %s", token, lock)
				}
				if token < highest[lock] {
					why += fmt.Sprintf("; the token is lower than %d, with which it was written before", highest[lock])
				}
				found = append(found, Breach{c.Revision, c.Key, why})
			}
			highest[lock] = max(highest[lock], token)
		}
		for _, c := range together {
			if c.After == nil {
				delete(tokens, c.Key)
			} else {
				tokens[c.Key] = c.After.Create
			}
		}
	}
	return found, nil
}

// AlwaysLeased returns where one of the keys had no lease: when it was put without
// one, and at from, when it was so already.
func AlwaysLeased(r *history.Record, from, to int64, keys Keys) (found []Breach, err error) {
	changes, err := changesOf(r, from, to, keys)
	if err != nil {
		return nil, err
	}
	before, err := r.At(from)
	if err != nil {
		return nil, err
	}
	for kv := range before.Range("") {
		if keys(kv.Key) && kv.Lease == 0 {
			found = append(found, Breach{from, kv.Key, fmt.Sprintf("has had no lease since revision %d", kv.Mod)})
		}
	}
	for _, c := range changes {
		if c.After != nil && c.After.Lease == 0 {
			found = append(found, Breach{c.Revision, c.Key, "is put without a lease"})
		}
	}
	return found, nil
}

// ExactlyOnce returns where an item was done again, and which of the items due were
// never done: of those the revision is to. For each change of the keys, item returns
// what was done by it, and "" when it was nothing. What was done up to from does not
// count.
func ExactlyOnce(r *history.Record, from, to int64, keys Keys,
	item func(history.Change) string, due ...string) (found []Breach, err error) {
	changes, err := changesOf(r, from, to, keys)
	if err != nil {
		return nil, err
	}
	done := map[string]int64{} // the revisions
	for _, c := range changes {
		if err := errors.Join(whole(c.Before), whole(c.After)); err != nil {
			return nil, err
		}
		name := item(c)
		switch {
		case name == "":
		case done[name] != 0:
			found = append(found, Breach{c.Revision, c.Key, fmt.Sprintf("does %q again, which revision %d has done", name, done[name])})
		default:
			done[name] = c.Revision
		}
	}
	for _, name := range due {
		if done[name] == 0 {
			found = append(found, Breach{Revision: to, Why: fmt.Sprintf("%q was never done", name)})
		}
	}
	return found, nil
}

// changesOf returns the changes of the keys after one revision, up to another.
func changesOf(r *history.Record, from, to int64, keys Keys) (of []history.Change, err error) {
	if to < from {
		return nil, fmt.Errorf("judge from revision %d to %d: the end is before the beginning", from, to)
	}
	changes, err := r.Changes(from+1, to)
	for _, c := range changes {
		if keys(c.Key) {
			of = append(of, c)
		}
	}
	return of, err
}

// oneRevision cuts the changes of the first revision off the rest.
func oneRevision(changes []history.Change) (first, rest []history.Change) {
	n := 1
	for n < len(changes) && changes[n].Revision == changes[0].Revision {
		n++
	}
	return changes[:n], changes[n:]
}

// whole returns an error when the record has kept only a part of a value.
func whole(kv *history.KeyValue) error {
	if kv == nil || kv.Size <= len(kv.Value) {
		return nil
	}
	return fmt.Errorf("the end of the value of %q at revision %d: %w", kv.Key, kv.Mod, history.ErrForgotten)
}
