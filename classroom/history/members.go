package history

import (
	"slices"
	"time"
)

// Role is what a member does in its cluster.
type Role string

const (
	Leader      Role = "leader"
	Follower    Role = "follower"
	Learner     Role = "learner"
	NoLeader    Role = "no leader"     // it answers, and knows no leader
	Unreachable Role = "not reachable" // it does not answer
)

// Member is what was known of a member. A Role may also be one that the caller of
// Record.Member has a word for.
type Member struct {
	Name     string
	Endpoint string // tells members apart
	ID       uint64 // 0 when it never answered
	Role     Role
	Term     uint64 // of raft, when it last answered
	Size     int64  // of its database, in bytes
	Quota    int64  // of that size; 0 when it does not tell
	Full     bool   // it knows of an alarm that forbids to write: a quota was reached
}

type memberLook struct {
	Member
	seen time.Duration
}

// members has what was heard of each member, in order, whenever that was new.
type members struct {
	looks [][]memberLook
}

// keptLooks is how much is remembered of each member.
const keptLooks = 10_000

// Member records what was heard of a member.
func (r *Record) Member(m Member, seen time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = max(r.heard, seen.Sub(r.began))
	if r.members.add(m, seen.Sub(r.began)) {
		r.news.tell()
	}
}

func (all *members) add(m Member, seen time.Duration) (isNew bool) {
	at := slices.IndexFunc(all.looks, func(of []memberLook) bool { return of[0].Endpoint == m.Endpoint })
	if at < 0 {
		all.looks = append(all.looks, []memberLook{{m, seen}})
		return true
	}
	of := all.looks[at]
	if of[len(of)-1].Member == m {
		return false
	}
	if len(of) == keptLooks {
		of = slices.Delete(of, 0, keptLooks/2)
	}
	all.looks[at] = append(of, memberLook{m, seen})
	return true
}

func (all *members) at(seen time.Duration) []Member {
	var found []Member
	for _, of := range all.looks {
		for _, look := range slices.Backward(of) {
			if look.seen <= seen {
				found = append(found, look.Member)
				break
			}
		}
	}
	return found
}

// forget lets go of what has been out of date since a time.
func (all *members) forget(since time.Duration) {
	for i, of := range all.looks {
		for len(of) > 1 && of[1].seen <= since {
			of = of[1:]
		}
		all.looks[i] = of
	}
}
