package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

const (
	// lateLimit is how long after its TTL a lease's key must be gone. A new
	// leader adds an election timeout (1 s) to the TTL that it restarts, and
	// looks for expired leases every 500 ms. When a revocation fails, it tries
	// again after the 7 s that a request may take: see ExpiredLeasesRetryInterval
	// in etcd's server.go. The rest is for a busy machine.
	lateLimit = time.Second + 500*time.Millisecond + 7*time.Second + 15*time.Second

	// answerLimit is when a member gives up a renewal that it cannot answer.
	answerLimit = 7 * time.Second
)

// life is what was seen of a lease. All times are since the start of the test.
type life struct {
	Key            string
	Lease          clientv3.LeaseID
	TTL            time.Duration // as granted
	Asked, Granted time.Duration // the grant was sent, and answered
	Renewals       []*renewal
	Gone           time.Duration // the first sign of its end; 0 when there was none

	ended chan struct{} // closed with the first sign
}

// renewal is one request to renew a lease.
type renewal struct {
	Sent         time.Duration // just before
	Ended        time.Duration // answered, or given up; 0 when neither was seen
	Acknowledged bool
}

// change is a change of leader: the former one was last seen to lead at Lost,
// the new one first at Known.
type change struct {
	Term        uint64
	Lost, Known time.Duration
}

// bounds returns from when on and until when the lease may go. What was not
// acknowledged may have renewed it: that counts only for the later bound.
func (l *life) bounds(changes []change) (earliest, latest time.Duration) {
	earliest, latest = l.Asked, l.Granted
	for _, r := range l.Renewals {
		if r.Acknowledged {
			earliest = max(earliest, r.Sent)
		}
		ended := r.Ended
		if ended == 0 {
			ended = r.Sent + answerLimit
		}
		latest = max(latest, ended)
	}
	earliest += l.TTL
	latest += l.TTL + lateLimit
	for _, c := range changes {
		// The lease may have been there when the leader was lost, and a new one
		// restarts the TTL.
		if c.Lost <= latest {
			latest = max(latest, c.Known+l.TTL+lateLimit)
		}
	}
	return earliest, latest
}

// judgeLeases returns what is wrong with a history: leases that were gone too
// early, too late or never. The changes are in the order of time.
func judgeLeases(lives []*life, changes []change) (violations []string) {
	for _, l := range lives {
		earliest, latest := l.bounds(changes)
		switch {
		case l.Gone == 0:
			violations = append(violations, fmt.Sprintf("%s is never gone", l.Key))
		case l.Gone < earliest:
			violations = append(violations, fmt.Sprintf("%s is gone at %v, %v too early",
				l.Key, l.Gone, earliest-l.Gone))
		case l.Gone > latest:
			violations = append(violations, fmt.Sprintf("%s is gone at %v, %v too late",
				l.Key, l.Gone, l.Gone-latest))
		}
	}
	return violations
}

func TestLeaseChecker(t *testing.T) {
	t.Parallel()
	const s = time.Second
	yes := func(sent time.Duration) *renewal { return &renewal{sent, sent + s/100, true} }
	no := func(sent, ended time.Duration) *renewal { return &renewal{sent, ended, false} }
	for name, c := range map[string]struct {
		renewals []*renewal
		changes  []change
		gone     time.Duration
		want     string // "" when the history is right
	}{
		"at its TTL":                        {gone: 13 * s},
		"just before its TTL":               {gone: 13*s - 1, want: "early"},
		"never":                             {want: "never"},
		"as late as it may":                 {gone: 13*s + s/100 + lateLimit},
		"too late":                          {gone: 13*s + s/100 + lateLimit + 1, want: "late"},
		"renewed":                           {renewals: []*renewal{yes(12 * s)}, gone: 15 * s},
		"renewed, one second early":         {renewals: []*renewal{yes(11 * s), yes(12 * s)}, gone: 14 * s, want: "early"},
		"renewed after it was gone":         {renewals: []*renewal{yes(14 * s)}, gone: 13 * s, want: "early"},
		"an unknown renewal did not count":  {renewals: []*renewal{no(12*s, 12*s+s/2)}, gone: 13 * s},
		"an unknown renewal counted":        {renewals: []*renewal{no(12*s, 12*s+s/2)}, gone: 15*s + s/2 + lateLimit},
		"an unknown renewal, too late":      {renewals: []*renewal{no(12*s, 12*s+s/2)}, gone: 16*s + lateLimit, want: "late"},
		"an endless renewal, too late":      {renewals: []*renewal{no(12*s, 0)}, gone: 15*s + answerLimit + lateLimit + 1, want: "late"},
		"a new leader restarted the TTL":    {changes: []change{{2, 12 * s, 18 * s}}, gone: 21*s + lateLimit},
		"a new leader, and early":           {changes: []change{{2, 11 * s, 12 * s}}, gone: 12*s + s/2, want: "early"},
		"a new leader, and too late":        {changes: []change{{2, 12 * s, 18 * s}}, gone: 22*s + lateLimit, want: "late"},
		"two new leaders":                   {changes: []change{{2, 12 * s, 18 * s}, {3, 19 * s, 30 * s}}, gone: 33*s + lateLimit},
		"a new leader when it was too late": {changes: []change{{2, 14*s + lateLimit, 15*s + lateLimit}}, gone: 15*s + lateLimit, want: "late"},
	} {
		lease := &life{Key: "k", TTL: 3 * s, Asked: 10 * s, Granted: 10*s + s/100,
			Renewals: c.renewals, Gone: c.gone}
		got := strings.Join(judgeLeases([]*life{lease}, c.changes), "\n")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestLeaseProof: a lease is never gone before the TTL that was granted has
// passed since its last acknowledged renewal, and is gone within lateLimit
// after, also when leaders are killed.
func TestLeaseProof(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	count, kills, span := 40, 1, 8*time.Second
	if etcdtest.Nightly() {
		count, kills, span = 240, 6, time.Minute
	}
	random := harness.Random(t)
	etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
	p := &leaseProof{begin: time.Now(), lives: map[clientv3.LeaseID]*life{}}
	keep(t, "json", func(w io.Writer) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		return json.NewEncoder(w).Encode([]any{p.lives, p.changes})
	})

	observing, stop := context.WithCancel(t.Context())
	var observers sync.WaitGroup
	defer observers.Wait()
	defer stop()
	observer := etcdtest.Connect(t, etcd.Endpoints()...)
	first, err := observer.Get(etcdtest.Soon(t), "first")
	etcdtest.NoError(t, err)
	deletions := observer.Watch(observing, leasePrefix, clientv3.WithPrefix(),
		clientv3.WithFilterPut(), clientv3.WithRev(first.Header.Revision+1))
	observers.Go(func() {
		if err := p.watch(deletions); err != nil && observing.Err() == nil {
			t.Error(err)
		}
	})
	observers.Go(func() { p.watchLeader(observing, observer, etcd) })

	var clients []*clientv3.Client
	for range 4 {
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   etcd.Endpoints(),
			Logger:      zap.NewNop(),
			DialOptions: []grpc.DialOption{grpc.WithChainStreamInterceptor(p.intercept)},
		})
		etcdtest.NoError(t, err)
		t.Cleanup(func() { client.Close() })
		clients = append(clients, client)
	}
	var left atomic.Int64 // leases that are no longer renewed
	var holders sync.WaitGroup
	for i := range count {
		random := rand.New(rand.NewPCG(random.Uint64(), 0))
		holders.Go(func() {
			defer left.Add(1)
			time.Sleep(time.Duration(random.Int64N(int64(span))))
			key := fmt.Sprintf("%s%03d", leasePrefix, i)
			if err := p.hold(t.Context(), clients[i%len(clients)], key, random); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		})
	}
	for i := range kills {
		etcdtest.Eventually(t, "enough leases are left", func() bool {
			return left.Load() > int64(count*(i+1)/(kills+2))
		})
		etcdtest.NoError(t, harness.KillLeader(t, etcd).Start(etcdtest.Soon(t)))
	}
	holders.Wait()
	overdue := time.After(time.Minute)
	for _, l := range p.lives {
		select {
		case <-l.ended:
			continue
		case <-overdue:
		}
		break
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	lives := slices.Collect(maps.Values(p.lives))
	if len(lives) < count {
		t.Errorf("%d leases were granted, not %d", len(lives), count)
	}
	if len(p.changes) < kills {
		t.Errorf("%d changes of leader were seen after %d kills", len(p.changes), kills)
	}
	for _, violation := range judgeLeases(lives, p.changes) {
		t.Error(violation)
	}
	renewals, early, late := 0, time.Hour, -time.Hour
	for _, l := range lives {
		for _, r := range l.Renewals {
			if r.Acknowledged {
				renewals++
			}
		}
		earliest, latest := l.bounds(p.changes)
		early = min(early, l.Gone-earliest)
		late = max(late, l.Gone-(latest-lateLimit))
	}
	t.Logf("%d leases, %d renewals, %d kills and %d changes of leader; gone from %v to %v after their time (limit %v)",
		len(lives), renewals, kills, len(p.changes), early, late, lateLimit)
}

const leasePrefix = "/cron/jobs/lease/proof/"

// leaseProof collects what is seen of leases.
type leaseProof struct {
	begin time.Time

	mu      sync.Mutex
	lives   map[clientv3.LeaseID]*life
	changes []change
}

func (p *leaseProof) now() time.Duration { return time.Since(p.begin) }

// hold gets a lease, puts its key, renews it a few times and leaves it.
func (p *leaseProof) hold(ctx context.Context, client *clientv3.Client, key string, random *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	call := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return do(ctx)
	}

	// A grant that is not acknowledged may have made a lease: it has no key.
	var id clientv3.LeaseID
	for id == 0 {
		asked := p.now()
		err := call(func(ctx context.Context) error {
			lease, err := client.Grant(ctx, 1+random.Int64N(4))
			if err != nil {
				return err
			}
			id = lease.ID
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lives[id] = &life{Key: key, Lease: id, Asked: asked, Granted: p.now(),
				TTL: time.Duration(lease.TTL) * time.Second, ended: make(chan struct{})}
			return nil
		})
		if ctx.Err() != nil {
			return err
		}
	}
	for stored := false; !stored; {
		err := call(func(ctx context.Context) error {
			_, err := client.Put(ctx, key, "running", clientv3.WithLease(id))
			return err
		})
		switch {
		case ctx.Err() != nil:
			return err
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			p.mu.Lock()
			defer p.mu.Unlock()
			p.gone(p.lives[id])
			return nil
		}
		stored = err == nil
	}
	times := random.IntN(5)
	if random.IntN(2) == 0 {
		renewals, err := client.KeepAlive(ctx, id)
		if err != nil {
			return err
		}
		for range times {
			<-renewals
		}
		return nil
	}
	for range times {
		time.Sleep(time.Duration(random.Int64N(int64(2 * time.Second))))
		// What it returns was noted by intercept.
		call(func(ctx context.Context) error {
			_, err := client.KeepAliveOnce(ctx, id)
			return err
		})
	}
	return nil
}

// watch notes the deletions of keys.
func (p *leaseProof) watch(deletions clientv3.WatchChan) error {
	for answer := range deletions {
		if err := answer.Err(); err != nil {
			return err
		}
		for _, event := range answer.Events {
			p.mu.Lock()
			for _, l := range p.lives {
				if l.Key == string(event.Kv.Key) {
					p.gone(l)
				}
			}
			p.mu.Unlock()
		}
	}
	return nil
}

// gone notes a sign that the lease has ended. It is called with mu held.
func (p *leaseProof) gone(l *life) {
	if l.Gone == 0 {
		l.Gone = p.now()
		close(l.ended)
	}
}

// watchLeader notes changes of leader, also those that no kill explains.
func (p *leaseProof) watchLeader(ctx context.Context, client *clientv3.Client,
	etcd *cluster.Cluster) {
	var last uint64
	var led time.Duration
	for ctx.Err() == nil {
		asked := p.now()
		if member, term := harness.Leading(ctx, client, etcd); member != nil {
			if last != 0 && term != last {
				p.mu.Lock()
				p.changes = append(p.changes, change{Term: term, Lost: led, Known: p.now()})
				p.mu.Unlock()
			}
			last, led = term, asked
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// intercept lets the proof see every renewal that is sent, also those that
// KeepAlive sends by itself, and every answer.
func (p *leaseProof) intercept(ctx context.Context, desc *grpc.StreamDesc,
	conn *grpc.ClientConn, method string, open grpc.Streamer,
	options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, options...)
	if err != nil || method != etcdserverpb.Lease_LeaseKeepAlive_FullMethodName {
		return stream, err
	}
	return &renewalStream{ClientStream: stream, proof: p,
		pending: map[clientv3.LeaseID][]*renewal{}}, nil
}

// renewalStream is a stream of renewals. The k-th answer for a lease belongs to
// its k-th renewal: k answers need k renewals, so even if a server answered in
// another order, one that was sent no earlier has been made.
type renewalStream struct {
	grpc.ClientStream
	proof   *leaseProof
	pending map[clientv3.LeaseID][]*renewal // used with the proof's mu held
}

func (s *renewalStream) SendMsg(message any) error {
	id := clientv3.LeaseID(message.(*etcdserverpb.LeaseKeepAliveRequest).ID)
	s.proof.mu.Lock()
	if l := s.proof.lives[id]; l != nil {
		r := &renewal{Sent: s.proof.now()}
		l.Renewals = append(l.Renewals, r)
		s.pending[id] = append(s.pending[id], r)
	}
	s.proof.mu.Unlock()
	err := s.ClientStream.SendMsg(message)
	if err != nil {
		s.end()
	}
	return err
}

func (s *renewalStream) RecvMsg(message any) error {
	if err := s.ClientStream.RecvMsg(message); err != nil {
		s.end()
		return err
	}
	answer := message.(*etcdserverpb.LeaseKeepAliveResponse)
	id := clientv3.LeaseID(answer.ID)
	s.proof.mu.Lock()
	defer s.proof.mu.Unlock()
	if pending := s.pending[id]; len(pending) > 0 {
		pending[0].Ended = s.proof.now()
		pending[0].Acknowledged = answer.TTL > 0
		s.pending[id] = pending[1:]
		if answer.TTL <= 0 {
			s.proof.gone(s.proof.lives[id])
		}
	}
	return nil
}

// end notes that no more answers come.
func (s *renewalStream) end() {
	s.proof.mu.Lock()
	defer s.proof.mu.Unlock()
	for _, pending := range s.pending {
		for _, r := range pending {
			r.Ended = s.proof.now()
		}
	}
	clear(s.pending)
}
