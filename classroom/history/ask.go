package history

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// lostAtOnce and askedAtOnce are how many leases are asked for in one look: of
	// those that have lost keys, and of the others.
	lostAtOnce  = 400
	askedAtOnce = 20

	memberEvery = 500 * time.Millisecond
	memberLimit = time.Second
	heardLimit  = time.Second
	maxMembers  = 9
)

// askLeases asks etcd for leases, and records what it says. term is that of an answer
// that came before, when a member has caught up with all others.
func (c *Recorder) askLeases(ctx context.Context, record *Record, term uint64) error {
	asked := time.Now()
	list, err := c.client.Leases(ctx)
	if err != nil {
		return err
	}
	var listed []int64
	for _, status := range list.Leases {
		listed = append(listed, int64(status.ID))
	}
	var asking sync.WaitGroup
	// It is that member, when there is one alone.
	ids := record.toAsk(listed, asked, len(c.client.Endpoints()) == 1)
	failures := make([]error, len(ids))
	var mu sync.Mutex
	var gone []Look
	for i, id := range ids {
		asking.Go(func() {
			look := Look{Lease: id, Asked: time.Now()}
			left, err := c.client.TimeToLive(ctx, clientv3.LeaseID(id))
			if failures[i] = err; err != nil {
				return
			}
			look.Answered, look.Term = time.Now(), left.RaftTerm
			look.TTL, look.Remaining = left.GrantedTTL, left.TTL
			// At a change of the leader nobody knows whose term the answer is from, and
			// for an instant the new one gives leases for ever.
			switch {
			case look.Term != term || look.Remaining >= 1<<31:
			case look.Remaining < 0:
				mu.Lock()
				defer mu.Unlock()
				gone = append(gone, look)
			default:
				record.Look(look)
			}
		})
	}
	asking.Wait()
	// Whatever keys they have had is to be heard of before their end.
	if len(gone) > 0 && c.hasHeard(ctx, record) {
		for _, look := range gone {
			record.Look(look)
		}
	}
	if record.wantsEvidence() {
		signal(c.ended)
	}
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// hasHeard waits a moment for a record to have all that is in the store now, and reports
// whether it has.
func (c *Recorder) hasHeard(ctx context.Context, record *Record) bool {
	ctx, cancel := context.WithTimeout(ctx, heardLimit)
	defer cancel()
	get, err := c.client.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return false
	}
	for record.Last() < get.Header.Revision && ctx.Err() == nil {
		pause(ctx, 5*time.Millisecond)
	}
	return ctx.Err() == nil
}

// toAsk takes in which leases a member has listed, of which some may be new; whether
// they are all that were alive; and returns those to ask for: first those that have lost keys, then those that were
// not listed, as they may have ended, then those that were asked for least lately.
func (r *Record) toAsk(listed []int64, asked time.Time, all bool) []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := asked.Sub(r.began)
	isListed := map[int64]bool{}
	var lost, others []*leaseLog
	for _, id := range listed {
		isListed[id] = true
		if log := r.leases.byID[id]; log == nil {
			r.leases.of(id, at)
		} else if log.ended != Alive && log.end < at {
			others = append(others, log) // That member lags, or the ID was granted again.
		}
	}
	for _, log := range r.leases.logs {
		switch {
		case log.ended != Alive:
		case log.lost != 0:
			lost = append(lost, log)
		default:
			others = append(others, log)
		}
	}
	if all {
		r.leases.listed = at
	}
	slices.SortStableFunc(others, func(a, b *leaseLog) int {
		if isListed[a.id] != isListed[b.id] {
			if isListed[b.id] {
				return -1
			}
			return 1
		}
		return int(a.tried - b.tried)
	})
	var ids []int64
	for _, log := range slices.Concat(lost[:min(len(lost), lostAtOnce)], others[:min(len(others), askedAtOnce)]) {
		log.tried = at
		ids = append(ids, log.id)
	}
	return ids
}

// lostKeys reports whether leases have lost keys, of which etcd has not told yet
// whether they have ended.
func (r *Record) lostKeys() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leases.unsure > 0
}

// meetMembers begins the list of members, in the order of the endpoints.
func (c *Recorder) meetMembers() {
	c.names = map[uint64]string{}
	endpoints := c.client.Endpoints()
	for _, endpoint := range endpoints[:min(len(endpoints), maxMembers)] {
		m := Member{Name: hostOf(endpoint), Endpoint: endpoint}
		c.members = append(c.members, m)
		c.record.Member(m, c.record.began)
	}
}

// hostOf returns the host and port of an endpoint, which may hold a password.
func hostOf(endpoint string) string {
	if parsed, err := url.Parse(endpoint); err == nil && parsed.Host != "" {
		return parsed.Host
	}
	if _, _, err := net.SplitHostPort(endpoint); err == nil {
		return endpoint
	}
	return "member"
}

// Answers reports whether a member with this role answers.
func (r Role) Answers() bool {
	return r == Leader || r == Follower || r == Learner || r == NoLeader
}

// Members returns what was last heard of the members.
func (c *Recorder) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.members)
}

func (c *Recorder) anyAnswers() bool {
	return slices.ContainsFunc(c.Members(), func(m Member) bool { return m.Role.Answers() })
}

// followMember asks one member until the recorder is closed. Members do not wait for
// each other: a paused one answers late or never.
func (c *Recorder) followMember(i int) {
	for ; c.ctx.Err() == nil; pause(c.ctx, memberEvery) {
		c.mu.Lock()
		m := c.members[i]
		c.mu.Unlock()
		name, role := "", Role("")
		if c.source.Own != nil {
			name, role = c.source.Own(m.Endpoint)
		}
		if role == "" {
			role = c.askMember(&m)
		}
		m.Role = role
		c.setMember(i, m, name)
	}
}

// askMember asks a member for what it is, and returns its role.
func (c *Recorder) askMember(m *Member) Role {
	ctx, cancel := context.WithTimeout(c.ctx, memberLimit)
	defer cancel()
	status, err := c.status.Status(ctx, m.Endpoint)
	if err != nil {
		return Unreachable
	}
	m.ID, m.Term, m.Size, m.Quota = status.Header.MemberId, status.RaftTerm, status.DbSize, status.DbSizeQuota
	// Of alarms it tells in words. To list them would be a proposal to all members.
	m.Full = slices.ContainsFunc(status.Errors, func(said string) bool {
		return strings.Contains(said, etcdserverpb.AlarmType_NOSPACE.String())
	})
	c.mu.Lock()
	_, named := c.names[m.ID]
	c.mu.Unlock()
	if !named {
		// This needs a majority.
		if list, err := c.client.MemberList(ctx); err == nil {
			names := map[uint64]string{}
			for _, member := range list.Members {
				names[member.ID] = member.Name
			}
			c.mu.Lock()
			c.names = names
			c.mu.Unlock()
		}
	}
	switch {
	case status.IsLearner:
		return Learner
	case status.Leader == 0:
		return NoLeader
	case status.Leader == status.Header.MemberId:
		return Leader
	default:
		return Follower
	}
}

// setMember takes in what was learnt of a member. New calls go only to those that
// answer, if any does.
func (c *Recorder) setMember(i int, m Member, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	if name == "" {
		name = c.names[m.ID]
	}
	if name != "" {
		m.Name = name
	}
	changed := m.Role.Answers() != c.members[i].Role.Answers()
	c.members[i] = m
	c.record.Member(m, time.Now())
	var answer []string
	for _, other := range c.members {
		if other.Role.Answers() {
			answer = append(answer, other.Endpoint)
		}
	}
	if changed && len(answer) > 0 {
		c.client.SetEndpoints(answer...)
	}
}
