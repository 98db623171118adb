package history

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/google/btree"
)

// Ending is how a lease ended.
type Ending string

const (
	Alive   Ending = ""
	Expired Ending = "expired" // nobody renewed it in time
	Revoked Ending = "revoked"
	Ended   Ending = "ended" // one of the two: etcd's changes do not tell which
)

// Lease is what was known of a lease.
type Lease struct {
	ID  int64
	TTL int64 // seconds, as granted; 0 when etcd was not asked yet

	// Its deadline lies between Early and Late, which are zero when it is not known.
	// It moves with each renewal.
	Early, Late time.Time

	// Renewals is a lower bound: etcd tells whole seconds, so a renewal is noticed
	// only when it moved the deadline beyond what was uncertain.
	Renewals int

	// Keys are those that are attached or, when it has ended, those that went along.
	Keys []string

	Ended Ending
	End   time.Time // when its end was seen
	At    int64     // the revision of its end; 0 when it had no key, so that there is none
}

// Look is what etcd answered when it was asked for a lease.
type Look struct {
	Lease           int64
	Asked, Answered time.Time
	TTL             int64  // seconds, as granted
	Remaining       int64  // whole seconds; -1 when etcd does not know the lease
	Term            uint64 // of raft: a new leader starts each TTL again
}

// known is what a Look told, together with those before it.
type known struct {
	seen, early, late time.Duration
	ttl               int64
	renewals          int
	term              uint64
}

type leaseLog struct {
	id    int64
	first time.Duration // when it was heard of
	yet   time.Duration // when it was not there yet; 0 when that is not known
	alive time.Duration // when etcd was last asked for it, of the times that it was alive
	tried time.Duration // when etcd was last asked for it at all
	looks []known
	keys  int // attached now

	// A revision in which it lost keys, and when that was seen. The lease has ended
	// then, or somebody has deleted them: the next Look tells. 0 when it has told.
	lost     int64
	lostAt   time.Duration
	lostKeys []string

	ended Ending
	end   time.Duration
	at    int64
}

// leases has all that was heard of leases. The logs are in the order in which the
// leases were heard of; an ID that is granted again has a new log.
type leases struct {
	logs   []*leaseLog
	byID   map[int64]*leaseLog
	ends   map[int64]*leaseLog // by the revision in which it ended, with its keys
	unsure int                 // how many have lost keys, and may have ended
	asks   bool                // one has ended, it is not known how, and nobody was told
	looks  int                 // of all logs
	listed time.Duration       // when all that were alive were known, the last time

	// So many logs at the beginning tell of leases that have ended by goneBy.
	gone   int
	goneBy time.Duration
}

// keptLeaseLooks is how many answers about leases are remembered, at most.
const keptLeaseLooks = 200_000

// newLeases returns the logs of a saved record, or none, and what the store tells of
// leases.
func newLeases(logs []*leaseLog, store *btree.BTreeG[*KeyValue]) leases {
	all := leases{logs: logs, byID: map[int64]*leaseLog{}, ends: map[int64]*leaseLog{}}
	for _, log := range logs {
		all.byID[log.id] = log
		if log.at != 0 {
			all.ends[log.at] = log
		}
	}
	store.Ascend(func(kv *KeyValue) bool {
		if kv.Lease != 0 {
			all.of(kv.Lease, 0).keys++
		}
		return true
	})
	all.count()
	return all
}

// of returns the log of a lease that is alive.
func (all *leases) of(id int64, seen time.Duration) *leaseLog {
	log := all.byID[id]
	if log == nil || log.ended != Alive {
		log = &leaseLog{id: id, first: seen, yet: all.listed}
		all.byID[id] = log
		all.logs = append(all.logs, log)
	}
	return log
}

// changed takes in which leases a change attaches a key to, and takes it from.
func (all *leases) changed(e entry) {
	if e.before != nil && e.before.Lease != 0 {
		log := all.of(e.before.Lease, e.seen)
		log.keys--
		if e.after == nil {
			if log.lost == 0 {
				all.unsure++
			}
			if log.lost != e.revision {
				log.lost, log.lostAt, log.lostKeys = e.revision, e.seen, nil
			}
			log.lostKeys = append(log.lostKeys, e.before.Key)
		}
	}
	if e.after != nil && e.after.Lease != 0 {
		all.of(e.after.Lease, e.seen).keys++
	}
}

// Look records what etcd answered when it was asked for a lease. TimeToLive is the
// call for that: the leader answers it, and a member that lags does not.
func (r *Record) Look(l Look) {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked, answered := l.Asked.Sub(r.began), l.Answered.Sub(r.began)
	log := r.leases.byID[l.Lease]
	if log != nil && log.ended != Alive && asked <= log.end {
		return // It tells of the time before.
	}
	if l.Remaining < 0 {
		// As long as it has keys, their deletion is still to be heard of.
		if log == nil || log.ended != Alive || log.keys > 0 {
			return
		}
		r.leases.over(log, answered)
	} else {
		log = r.leases.of(l.Lease, answered)
		log.alive = max(log.alive, asked)
		if log.lost != 0 && asked > log.lostAt {
			log.lost, log.lostKeys = 0, nil // Somebody deleted them: the lease lives on.
			r.leases.unsure--
		}
		if log.look(asked, answered, l) {
			r.leases.looks++
		}
	}
	r.leases.thin()
	r.heardAt(l.Answered)
}

// over notes the end of a lease, which was noticed at a time.
func (all *leases) over(log *leaseLog, noticed time.Duration) {
	log.end, log.at, log.ended = noticed, log.lost, Ended
	if log.lost != 0 {
		log.end = log.lostAt
		all.ends[log.at] = log
		all.unsure--
	}
	// Heard of before its deadline, it cannot have reached it. No TTL is below a second.
	const shortest = time.Second
	last := len(log.looks) - 1
	if last >= 0 && log.end < log.looks[last].early || log.yet != 0 && log.end < log.yet+shortest {
		log.ended = Revoked
	} else {
		all.asks = true
	}
}

// look takes in that so many whole seconds remained between two times. It reports
// whether that is remembered as something new.
func (log *leaseLog) look(asked, answered time.Duration, l Look) bool {
	now := known{seen: answered, ttl: l.TTL, term: l.Term,
		early: asked + time.Duration(l.Remaining)*time.Second,
		late:  answered + time.Duration(l.Remaining+1)*time.Second}
	if len(log.looks) == 0 {
		log.looks = append(log.looks, now)
		return true
	}
	last := log.looks[len(log.looks)-1]
	now.renewals = last.renewals
	if l.Remaining == 0 {
		// It may be over already: etcd looks for such leases twice a second, and a
		// busy one needs a while to end them.
		now.early = max(now.early-2*time.Second, min(now.early, last.early))
	}
	// The clocks of two machines do not run alike.
	const drift = 20 * time.Millisecond
	switch {
	case now.term != last.term:
		// Its new leader has started its TTL again.
	case now.early > last.late+drift:
		now.renewals++
	case now.late < last.early-drift:
		// A clock has jumped.
	default:
		now.early = max(now.early, last.early)
		now.late = max(now.early, min(now.late, last.late))
		if now.early == last.early && now.late == last.late {
			return false
		}
	}
	log.looks = append(log.looks, now)
	return true
}

// told returns how many looks there were by a time.
func (log *leaseLog) told(by time.Duration) int {
	return sort.Search(len(log.looks), func(i int) bool { return log.looks[i].seen > by })
}

// Settle records how a lease ended of which only that is known, by evidence from
// elsewhere: etcd's metrics count what has expired.
func (r *Record) Settle(lease int64, how Ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if log := r.leases.byID[lease]; log != nil && log.ended == Ended {
		log.ended = how
		r.news.tell()
	}
}

// inSight is how long a lease that has ended belongs to the moments after its end.
const inSight = 10 * time.Second

// EndedLeases returns the leases of which the end is remembered, in the order in
// which they were first heard of.
func (r *Record) EndedLeases() []Lease {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.leases.at(r.last, r.heard, math.MinInt64, r.began)
	return slices.DeleteFunc(all, func(l Lease) bool { return l.Ended == Alive })
}

// at returns the leases as they were known at a time, at which a revision was the
// last one, without those that had ended before another time.
func (all *leases) at(revision int64, seen, since time.Duration, began time.Time) (found []Lease) {
	logs := all.logs
	for all.gone < len(logs) && logs[all.gone].ended != Alive && logs[all.gone].end < since {
		all.goneBy = max(all.goneBy, logs[all.gone].end)
		all.gone++
	}
	// Whoever asks for the present, asks often.
	if all.goneBy < since {
		logs = logs[all.gone:]
	}
	for _, log := range logs {
		if log.first > seen || log.ended != Alive && log.end < since {
			continue
		}
		l := Lease{ID: log.id}
		if told := log.told(seen); told > 0 {
			k := log.looks[told-1]
			l.TTL, l.Renewals = k.ttl, k.renewals
			l.Early, l.Late = began.Add(k.early), began.Add(k.late)
		}
		if log.ended != Alive && log.end <= seen && log.at <= revision {
			l.Ended, l.End, l.At, l.Keys = log.ended, began.Add(log.end), log.at, log.lostKeys
		}
		found = append(found, l)
	}
	return found
}

// forget lets go of what has been out of date since a time.
func (all *leases) forget(since time.Duration) {
	all.keep(func(log *leaseLog) bool { return log.ended == Alive || log.end >= since })
	for _, log := range all.logs {
		log.looks = slices.Clone(log.looks[max(0, log.told(since)-1):])
	}
	all.count()
}

// thin forgets the older half of what was answered, and of the leases that have
// ended, when it has become too much.
func (all *leases) thin() {
	if all.looks <= keptLeaseLooks {
		return
	}
	for _, log := range all.logs {
		log.looks = slices.Clone(log.looks[len(log.looks)/2:])
	}
	older := len(all.logs) / 2
	all.keep(func(log *leaseLog) bool {
		older--
		return log.ended == Alive || older < 0
	})
	all.count()
}

// keep lets go of all other logs.
func (all *leases) keep(which func(*leaseLog) bool) {
	all.gone, all.goneBy = 0, 0
	all.logs = slices.DeleteFunc(all.logs, func(log *leaseLog) bool {
		if which(log) {
			return false
		}
		if all.byID[log.id] == log {
			delete(all.byID, log.id)
		}
		delete(all.ends, log.at)
		return true
	})
}

func (all *leases) count() {
	all.looks = 0
	for _, log := range all.logs {
		all.looks += len(log.looks)
	}
}
