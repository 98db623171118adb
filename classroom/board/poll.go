package board

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"example.com/etcd-by-example/classroom/cluster"
)

const (
	pollEvery   = 300 * time.Millisecond // leases and etcd as a whole
	pollLimit   = 1500 * time.Millisecond
	memberEvery = 500 * time.Millisecond // each member
	memberLimit = time.Second
	askAtOnce   = 20 // leases in one poll
)

// poll asks for the leases, and looks after the watch: whether it lags behind
// for ever, and whether the store is still the one that it began with.
func (b *Board) poll() {
	ticks := time.NewTicker(pollEvery)
	defer ticks.Stop()
	var failures int
	var behind int64 // the revision at which the watch stood while etcd was ahead
	var since time.Time
	for b.ctx.Err() == nil {
		begun, seen := b.state.seen()
		revision, err := b.pollOnce(begun)
		switch {
		case b.ctx.Err() != nil:
			return
		case err != nil:
			// Of several members one may be gone, or paused: the next try may
			// go to another.
			if failures++; failures >= 2 || !b.members.anyAlive() {
				b.setTrouble(err)
			}
		default:
			if failures > 0 && !b.sameStore() {
				b.startAnew(begun)
				seen = 0
			}
			failures = 0
			b.setTrouble(nil)
			_, now := b.state.seen()
			switch {
			case revision < seen:
				b.startAnew(begun) // The revision never falls: this is another store.
			case revision <= now || behind != now:
				behind, since = now, time.Now()
			case time.Since(since) > time.Second:
				b.restartWatch()
				behind, since = now, time.Now()
			}
		}
		select {
		case <-b.ctx.Done():
			return
		case <-ticks.C:
		case <-b.ask:
			// Soon, but not for every single event.
			pause(b.ctx, 20*time.Millisecond)
		}
	}
}

// pollOnce returns the revision of the store, which needs a majority.
func (b *Board) pollOnce(begun int) (int64, error) {
	ctx, cancel := context.WithTimeout(b.ctx, pollLimit)
	defer cancel()
	get, err := b.client.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	list, err := b.client.Leases(ctx)
	if err != nil {
		return 0, err
	}
	var alive []int64
	for _, status := range list.Leases {
		alive = append(alive, int64(status.ID))
	}
	var asking sync.WaitGroup
	ids := b.state.toAsk(begun, alive, askAtOnce)
	answers := make([]answerTo, len(ids))
	failures := make([]error, len(ids))
	for i, id := range ids {
		asking.Go(func() {
			asked := time.Now()
			left, err := b.client.TimeToLive(ctx, clientv3.LeaseID(id))
			if failures[i] = err; err == nil {
				answers[i] = answerTo{id, left.GrantedTTL, left.TTL, asked, time.Now()}
			}
		})
	}
	asking.Wait()
	for i := len(ids) - 1; i >= 0; i-- {
		if failures[i] != nil {
			answers = slices.Delete(answers, i, i+1)
			err = failures[i]
		}
	}
	b.state.answered(begun, time.Now(), alive, answers)
	if len(answers) < len(ids) {
		return 0, err
	}
	return get.Header.Revision, nil
}

// sameStore reports whether the last change that was seen is in the store. It
// is asked after etcd was away: it may have come back empty.
func (b *Board) sameStore() bool {
	b.state.mu.Lock()
	if len(b.state.history) == 0 {
		defer b.state.mu.Unlock()
		// Every store begins with revision 1. After another one, nothing is lost by
		// reading it again.
		return b.state.revision == 1
	}
	last := b.state.history[len(b.state.history)-1]
	b.state.mu.Unlock()
	ctx, cancel := context.WithTimeout(b.ctx, pollLimit)
	defer cancel()
	get, err := b.client.Get(ctx, last.key, clientv3.WithRev(last.revision))
	if err != nil {
		return false
	}
	if last.after == nil {
		return len(get.Kvs) == 0
	}
	return len(get.Kvs) == 1 && get.Kvs[0].ModRevision == last.revision &&
		strings.HasPrefix(string(get.Kvs[0].Value), string(last.after.start))
}

// setTrouble shows that etcd cannot be used, or that it can be.
func (b *Board) setTrouble(err error) {
	text := ""
	var said rpctypes.EtcdError
	switch {
	case err == nil:
	case errors.As(err, &said) && (said.Code() == codes.PermissionDenied ||
		said.Code() == codes.Unauthenticated || said.Code() == codes.InvalidArgument):
		text = "etcd refuses to show what it has: " + cut(visible(said.Error()), 200)
	case b.members.anyAlive():
		text = "etcd has no leader: a majority of its members is gone."
	default:
		text = "etcd does not answer. This is what was last seen."
	}
	b.troubled.Lock()
	changed := b.trouble != text
	b.trouble = text
	b.troubled.Unlock()
	if changed {
		b.state.mu.Lock()
		b.state.touch(panelTrouble)
		b.state.mu.Unlock()
	}
}

// memberView is a member as the page shows it.
type memberView struct {
	Name     string
	Endpoint string
	Role     string // leader, follower, learner, no leader, paused, stopped, silent
	Term     uint64
	Size     int64
	ID       uint64
	handle   *cluster.Member // nil for a member that is not ours
}

// The roles of which a member tells by not answering.
const (
	roleUnknown = "not asked yet"
	rolePaused  = "paused"
	roleStopped = "stopped"
	roleSilent  = "not reachable"
)

type memberList struct {
	mu    sync.Mutex
	list  []memberView
	names map[uint64]string
}

func newMemberList(config Config, endpoints []string) *memberList {
	m := &memberList{names: map[uint64]string{}}
	if config.Cluster != nil {
		for _, member := range config.Cluster.Members {
			m.list = append(m.list, memberView{Name: member.Name,
				Endpoint: member.Endpoint, Role: roleUnknown, handle: member})
		}
		return m
	}
	for _, endpoint := range endpoints[:min(len(endpoints), 9)] {
		m.list = append(m.list, memberView{Name: hostOf(endpoint),
			Endpoint: endpoint, Role: roleUnknown})
	}
	return m
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

func (m *memberList) anyAlive() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.list, func(view memberView) bool { return view.ID != 0 && answers(view.Role) })
}

func answers(role string) bool {
	return role != roleUnknown && role != rolePaused && role != roleStopped && role != roleSilent
}

// pollMember asks one member until the board is closed. Members do not wait for
// each other: a paused one answers late or never.
func (b *Board) pollMember(i int) {
	for b.ctx.Err() == nil {
		b.askMember(i)
		pause(b.ctx, memberEvery)
	}
}

func (b *Board) askMember(i int) {
	b.members.mu.Lock()
	view := b.members.list[i]
	_, named := b.members.names[view.ID]
	b.members.mu.Unlock()
	before := view
	switch {
	case view.handle != nil && view.handle.PID() == 0:
		view.Role = roleStopped
	case view.handle != nil && view.handle.Paused():
		view.Role = rolePaused
	default:
		ctx, cancel := context.WithTimeout(b.ctx, memberLimit)
		defer cancel()
		status, err := b.status.Status(ctx, view.Endpoint)
		switch {
		case err != nil:
			view.Role = roleSilent
		case status.IsLearner:
			view.Role = "learner"
		case status.Leader == 0:
			view.Role = "no leader"
		case status.Leader == status.Header.MemberId:
			view.Role = "leader"
		default:
			view.Role = "follower"
		}
		if err == nil {
			view.ID, view.Term, view.Size = status.Header.MemberId, status.RaftTerm, status.DbSize
		}
		if err == nil && view.handle == nil && !named {
			b.askNames()
		}
	}
	if b.ctx.Err() != nil {
		return
	}
	b.members.mu.Lock()
	if name := b.members.names[view.ID]; name != "" && view.handle == nil {
		view.Name = name
	}
	changed := view != before
	b.members.list[i] = view
	var alive []string
	for _, other := range b.members.list {
		if answers(other.Role) {
			alive = append(alive, other.Endpoint)
		}
	}
	b.members.mu.Unlock()
	if !changed {
		return
	}
	if answers(view.Role) != answers(before.Role) && len(alive) > 0 {
		// New calls go only to those that answer.
		b.client.SetEndpoints(alive...)
	}
	b.state.mu.Lock()
	b.state.touch(panelMembers)
	b.state.mu.Unlock()
}

// askNames learns the members' names, which needs a majority.
func (b *Board) askNames() {
	ctx, cancel := context.WithTimeout(b.ctx, memberLimit)
	defer cancel()
	list, err := b.client.MemberList(ctx)
	if err != nil {
		return
	}
	b.members.mu.Lock()
	defer b.members.mu.Unlock()
	for _, member := range list.Members {
		b.members.names[member.ID] = member.Name
	}
}

// act does to a member what a button asks for.
func (b *Board) act(name, action string) error {
	var members []*cluster.Member
	if b.config.Cluster != nil {
		members = b.config.Cluster.Members
	}
	at := slices.IndexFunc(members, func(m *cluster.Member) bool { return m.Name == name })
	if at < 0 {
		return fmt.Errorf("%w: no member %q", errUnknown, name)
	}
	do := cluster.Actions[action]
	if do == nil {
		return fmt.Errorf("%w: no action %q", errUnknown, action)
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	return b.config.Cluster.Exclusively(ctx, func() error { return do(ctx, members[at]) })
}
