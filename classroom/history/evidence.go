package history

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// count is what one member has counted since it was started.
type count struct {
	started  float64 // Unix time in seconds; tells a member from the same one restarted
	expired  float64 // leases that it ended as a leader, because they had expired
	renewals float64
}

// counts is what the members had counted at a time.
type counts struct {
	at       time.Time // when they were asked: what happened later may be missing
	revision int64     // of the store, read after they had answered
	quiet    bool      // whatever had ended before is counted
	complete bool      // no member is missing
	members  map[uint64]count
}

const (
	countEvery  = 2 * time.Second
	countFirst  = 100 * time.Millisecond // as long as there is none to compare with
	keptCounts  = 8
	countedSure = 500 * time.Millisecond
)

// countAfter is when counts are made after leases have ended: an expiry is counted just
// after it, and the sooner it is found, the less has happened besides.
var countAfter = []time.Duration{0, 30 * time.Millisecond, 100 * time.Millisecond, countedSure}

// settle finds out how leases have ended. The changes of the store do not tell an
// expiry from a revocation, but the leader counts expiries: so what it counted between
// two moments tells, when it fits all the leases that ended between them, or none.
func (c *Recorder) settle() {
	var last *counts
	var past []counts // those that lie between all ends that are counted and the others
	record := c.Record()
	keep := func(now counts) {
		c.addRenewals(last, now)
		last = &now
		if now.quiet && now.complete {
			past = append(past[max(0, len(past)-keptCounts+1):], now)
		}
	}
	for {
		every := countEvery
		if len(past) == 0 {
			every = countFirst
		}
		asked := false
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(every):
		case <-c.ended:
			asked = true
		}
		if now := c.Record(); now != record {
			record, last, past = now, nil, nil
		}
		switch {
		case record.Last() == 0:
		case !asked && (len(past) == 0 || record.anyLease()):
			now := c.count(record)
			record.settleBy(past, now, now.quiet) // What a member that was away has counted.
			keep(now)
		case asked:
			for _, after := range countAfter {
				pause(c.ctx, after)
				now := c.count(record)
				done := record.settleBy(past, now, after == countedSure)
				keep(now)
				if done {
					break
				}
			}
		}
	}
}

// count asks all members for their metrics. A member that does not answer is missing.
func (c *Recorder) count(record *Record) counts {
	now := counts{at: time.Now(), revision: math.MaxInt64, members: map[uint64]count{}}
	now.quiet = record.quietSince(now.at.Add(-countedSure))
	endpoints := map[uint64]string{}
	for _, m := range c.Members() {
		endpoints[m.ID] = m.Endpoint
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for id, endpoint := range endpoints {
		asking.Go(func() {
			if count, err := c.scrape(endpoint); err == nil {
				mu.Lock()
				defer mu.Unlock()
				now.members[id] = count
			}
		})
	}
	asking.Wait()
	ctx, cancel := context.WithTimeout(c.ctx, askLimit)
	defer cancel()
	get, err := c.client.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return now
	}
	now.revision = get.Header.Revision
	list, err := c.client.MemberList(ctx)
	now.complete = err == nil && !slices.ContainsFunc(list.Members, func(m *etcdserverpb.Member) bool {
		_, counted := now.members[m.ID]
		return !counted
	})
	return now
}

// scrape reads a member's metrics.
func (c *Recorder) scrape(endpoint string) (count, error) {
	address := endpoint
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	address, err := url.JoinPath(address, "metrics")
	if err != nil {
		return count{}, err
	}
	request, err := http.NewRequestWithContext(c.ctx, http.MethodGet, address, nil)
	if err != nil {
		return count{}, err
	}
	answer, err := c.web.Do(request)
	if err != nil {
		return count{}, err
	}
	defer answer.Body.Close()
	var counted count
	wanted := map[string]*float64{
		"process_start_time_seconds":                &counted.started,
		"etcd_debugging_server_lease_expired_total": &counted.expired,
		"etcd_debugging_lease_renewed_total":        &counted.renewals,
	}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if into := wanted[name]; into != nil {
			if *into, err = strconv.ParseFloat(value, 64); err != nil {
				return count{}, err
			}
			delete(wanted, name)
		}
	}
	if len(wanted) > 0 {
		return count{}, fmt.Errorf("the metrics of %s do not count leases", endpoint)
	}
	return counted, lines.Err()
}

// since returns how many leases the members have counted as expired between two
// counts. When it is not sure, there may be more.
func (now counts) since(past counts) (expired int, sure bool) {
	sure = past.complete && now.complete
	for id, count := range now.members {
		before, known := past.members[id]
		if !known || before.started != count.started {
			sure = false
			continue
		}
		expired += int(count.expired - before.expired)
	}
	return expired, sure && len(now.members) == len(past.members)
}

// addRenewals counts the renewals since the last count of the same record, if there
// is one.
func (c *Recorder) addRenewals(last *counts, now counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last == nil {
		c.renewals = 0
		return
	}
	for id, count := range now.members {
		before := last.members[id]
		if before.started != count.started {
			before.renewals = 0
		}
		c.renewals += int(count.renewals - before.renewals)
	}
}

// Renewals returns how many renewals of leases the members have counted while this
// store was recorded, and -1 before they were asked. It is out of date by up to 2 s;
// and what a member counted just before it ended is missing.
func (c *Recorder) Renewals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renewals
}

// wantsEvidence reports whether leases have ended since it was last called of which
// only that is known.
func (r *Record) wantsEvidence() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	asks := r.leases.asks
	r.leases.asks = false
	return asks
}

// anyLease reports whether a lease is alive.
func (r *Record) anyLease() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.leases.logs, func(log *leaseLog) bool { return log.ended == Alive })
}

// quietSince reports whether no lease has ended since a time that may have expired.
func (r *Record) quietSince(t time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := t.Sub(r.began)
	return !slices.ContainsFunc(r.leases.logs, func(log *leaseLog) bool {
		return log.ended != Alive && log.ended != Revoked && log.end >= since || log.ended == Alive && log.lost != 0
	})
}

// settleBy settles how leases have ended by what was counted. When all that ended is
// counted for sure, nothing counted means that they were revoked. It reports whether
// something was found out, or nothing is left to be.
func (r *Record) settleBy(past []counts, now counts, sure bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	// An earlier count is before more of the ends, but more has happened since.
	for _, from := range slices.Backward(past) {
		open, expired, fits := r.leases.endedAfter(from.at.Sub(r.began), from.revision)
		counted, complete := now.since(from)
		switch {
		case !fits || len(open) == 0:
		case counted == expired+len(open):
			r.settleAll(open, Expired)
			return true
		case counted == expired && complete && sure:
			r.settleAll(open, Revoked)
			return true
		}
	}
	return !slices.ContainsFunc(r.leases.logs, func(log *leaseLog) bool { return log.ended == Ended })
}

func (r *Record) settleAll(open []*leaseLog, how Ending) {
	for _, log := range open {
		log.ended = how
	}
	r.news.tell()
}

// endedAfter returns the leases that ended after a count, as far as it is not known
// how, and how many are known to have expired. It does not fit when one of them may
// have ended before.
func (all *leases) endedAfter(counted time.Duration, revision int64) (open []*leaseLog, expired int, fits bool) {
	for _, log := range all.logs {
		if log.ended == Alive || log.ended == Revoked || log.end < counted {
			continue
		}
		if log.at <= revision && log.alive <= counted {
			return nil, 0, false
		}
		if log.ended == Expired {
			expired++
		} else {
			open = append(open, log)
		}
	}
	return open, expired, true
}
