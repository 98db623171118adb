package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Source is an etcd to record.
type Source struct {
	// Etcd is how to reach it. The recorder makes a client of its own.
	Etcd clientv3.Config

	// Limits are those of each record.
	Limits Limits

	// Back is how many revisions before the present a record begins, as far as etcd
	// still has them.
	Back int64

	// Show, when it is set, returns what is recorded for the value of a key: less than
	// it, when not all who see the record may see it.
	Show func(key, value string) string

	// Emptied, when it is set, returns a channel that is closed as soon as the store
	// was emptied by somebody who tells: a new store may have come to the revision
	// of the old one before anybody asks.
	Emptied func() <-chan struct{}

	// Own, when it is set, tells what is known of the member at an endpoint by the
	// one who runs it: its name, and its role when it need not be asked, because it
	// is stopped or paused.
	Own func(endpoint string) (name string, role Role)
}

// Recorder fills records with what an etcd does, until it is closed. One goroutine
// reads the store, watches it, and starts anew when it is another store. Others ask
// for the leases, for each member, and for what the members have counted.
type Recorder struct {
	source  Source
	client  *clientv3.Client // knows the members that answer
	status  *clientv3.Client // asks single members: SetEndpoints races with that
	web     *http.Client
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	doubt   chan struct{} // is it still the same store?
	lost    chan struct{} // have leases ended that lost keys?
	ended   chan struct{} // how have leases ended?

	mu       sync.Mutex
	record   *Record
	trouble  error
	news     news
	term     uint64 // of raft, the highest seen of this store
	members  []Member
	names    map[uint64]string // of all members, by their IDs
	renewals int
}

// reconnecting returns the configuration of a client that stays for as long as its
// etcd is looked at: it finds a member that hangs, and tries one that was away once a
// second.
func reconnecting(etcd clientv3.Config) clientv3.Config {
	etcd.DialKeepAliveTime = cmp.Or(etcd.DialKeepAliveTime, 10*time.Second)
	etcd.DialKeepAliveTimeout = cmp.Or(etcd.DialKeepAliveTimeout, 3*time.Second)
	// Without a limit, an etcd that was away for long would not be tried again for
	// two minutes.
	connect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: time.Second}
	connect.Backoff.BaseDelay = 100 * time.Millisecond
	connect.Backoff.MaxDelay = time.Second
	etcd.DialOptions = append(etcd.DialOptions[:len(etcd.DialOptions):len(etcd.DialOptions)],
		grpc.WithConnectParams(connect))
	return etcd
}

// Start returns at once. It need not have found etcd by then. The error says that
// Source.Etcd is wrong.
func Start(ctx context.Context, source Source) (_ *Recorder, err error) {
	etcd := reconnecting(source.Etcd)
	etcd.Logger = cmp.Or(etcd.Logger, zap.NewNop()) // Trouble tells what is wrong.

	c := &Recorder{source: source, doubt: make(chan struct{}, 1), lost: make(chan struct{}, 1),
		ended: make(chan struct{}, 1), renewals: -1, record: New(source.Limits, 0, nil, time.Now()),
		web: &http.Client{Transport: &http.Transport{TLSClientConfig: etcd.TLS}, Timeout: askLimit}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.client, err = clientv3.New(etcd)
	if err == nil {
		c.status, err = clientv3.New(etcd)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("make a client of the etcd to record: %w", err)
	}
	c.meetMembers()
	c.running.Go(c.run)
	c.running.Go(c.look)
	c.running.Go(c.settle)
	for i := range c.members {
		c.running.Go(func() { c.followMember(i) })
	}
	return c, nil
}

// Client returns a client of the etcd that is recorded, which is closed with the
// recorder.
func (c *Recorder) Client() *clientv3.Client { return c.client }

// Close ends what Start has begun, and returns when it has ended.
func (c *Recorder) Close() {
	c.cancel()
	c.running.Wait()
	c.web.CloseIdleConnections()
	for _, client := range []*clientv3.Client{c.client, c.status} {
		if client != nil {
			client.Close() // It says that its context is over, which was meant.
		}
	}
}

// Record returns the record of the store as it is now. Its last revision is 0 as long
// as the store was not read. A store that replaces another has a record of its own.
func (c *Recorder) Record() *Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record
}

// Next returns a channel that is closed when Record or Trouble return something new.
func (c *Recorder) Next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.news.wait()
}

// begin has what comes from now on go into another record.
func (c *Recorder) begin(record *Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		record.Member(m, record.began)
	}
	c.record, c.term, c.renewals = record, 0, -1
	c.news.tell()
}

var (
	errDoubt   = errors.New("it may be another store")
	errEmptied = errors.New("the store was emptied")
)

func (c *Recorder) run() {
	var emptied <-chan struct{}
	if c.source.Emptied != nil {
		emptied = c.source.Emptied()
	}
	for c.ctx.Err() == nil {
		err := c.follow(emptied)
		switch {
		case errors.Is(err, errEmptied):
			emptied = c.source.Emptied()
			// The watch begins with its first change, so that it misses none.
			c.begin(New(c.source.Limits, 1, nil, time.Now()))
			continue
		case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, ErrGap):
			c.begin(New(c.source.Limits, 0, nil, time.Now()))
		}
		pause(c.ctx, 200*time.Millisecond)
	}
}

// follow reads the store, if it was not read yet, and records its changes until
// that ends, for the reason that is returned.
func (c *Recorder) follow(emptied <-chan struct{}) error {
	record := c.Record()
	same := false
	if record.Last() > 0 {
		var err error
		if same, err = c.same(record); err != nil {
			return err // Not known, so nothing is forgotten.
		}
	}
	if !same {
		var err error
		if record, err = c.load(); err != nil {
			return err
		}
		c.begin(record)
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	c.running.Go(func() {
		select {
		case <-ctx.Done():
		case <-c.doubt:
			cancel(errDoubt)
		case <-emptied:
			cancel(errEmptied)
		}
	})
	if err := c.watch(ctx, record); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// watch records changes until ctx ends. It has no WithRequireLeader: while there is
// no leader, it waits.
func (c *Recorder) watch(ctx context.Context, record *Record) error {
	// A watcher of its own has a connection of its own choice: that of the last one
	// may lead to a member that is paused.
	watcher := clientv3.NewWatcher(c.client)
	defer watcher.Close()
	// Watch itself waits as long as no member can be reached.
	defer context.AfterFunc(ctx, func() { watcher.Close() })()
	// The record knows what a key was before, so WithPrevKV would only make etcd
	// read it again.
	for answer := range watcher.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(record.Last()+1)) {
		if err := answer.Err(); err != nil {
			return err
		}
		if !c.termGoesOn(answer.Header.RaftTerm) {
			return errDoubt
		}
		puts := Puts(answer.Events)
		for i := range puts {
			c.show(&puts[i])
		}
		if err := record.Append(puts, time.Now()); err != nil {
			return err
		}
		if record.lostKeys() {
			signal(c.lost)
		}
	}
	return nil
}

func (c *Recorder) show(kv *KeyValue) *KeyValue {
	if c.source.Show != nil {
		kv.Value = c.source.Show(kv.Key, kv.Value)
	}
	return kv
}

// Puts returns the changes that a watch has told of, for Append.
func Puts(events []*clientv3.Event) []Put {
	puts := make([]Put, len(events))
	for i, event := range events {
		if event.Type == mvccpb.Event_DELETE {
			puts[i] = Put{Key: string(event.Kv.Key), Mod: event.Kv.ModRevision}
		} else {
			puts[i] = *NewKeyValue(event.Kv)
		}
	}
	return puts
}

// NewKeyValue returns a key as etcd's client tells it.
func NewKeyValue(kv *mvccpb.KeyValue) *KeyValue {
	return &KeyValue{Key: string(kv.Key), Value: string(kv.Value), Create: kv.CreateRevision,
		Mod: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
}

// askLimit bounds each question to etcd.
const askLimit = 1500 * time.Millisecond

// load reads the whole store as it is, or as it was Source.Back revisions before:
// the watch brings the rest.
func (c *Recorder) load() (*Record, error) {
	if c.source.Back > 0 {
		ctx, cancel := context.WithTimeout(c.ctx, askLimit)
		get, err := c.client.Get(ctx, "\x00", clientv3.WithCountOnly())
		cancel()
		if err != nil {
			return nil, err
		}
		record, err := c.loadAt(max(1, get.Header.Revision-c.source.Back))
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return record, err
		}
	}
	return c.loadAt(0)
}

// loadAt reads the store page by page, all at one revision; 0 is the last one.
func (c *Recorder) loadAt(revision int64) (*Record, error) {
	var keys []*KeyValue
	for from := "\x00"; ; {
		ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
		get, err := c.client.Get(ctx, from, clientv3.WithFromKey(), clientv3.WithLimit(200), clientv3.WithRev(revision))
		cancel()
		if err != nil {
			return nil, err
		}
		if revision == 0 {
			revision = get.Header.Revision
		}
		for _, kv := range get.Kvs {
			keys = append(keys, c.show(NewKeyValue(kv)))
		}
		if !get.More {
			return New(c.source.Limits, revision, keys, time.Now()), nil
		}
		from = string(get.Kvs[len(get.Kvs)-1].Key) + "\x00"
	}
}

// same reports whether etcd still has the store that was recorded: its term has not
// fallen, and it has the last change. The error says that this is not known.
func (c *Recorder) same(record *Record) (bool, error) {
	ctx, cancel := context.WithTimeout(c.ctx, askLimit)
	defer cancel()
	last := record.Last()
	changes, err := record.Changes(last, last)
	if err != nil || len(changes) == 0 {
		// Nothing is lost by reading it again; and each store begins with revision 1.
		return last == 1, nil
	}
	change := changes[len(changes)-1]
	get, err := c.client.Get(ctx, change.Key, clientv3.WithRev(last))
	switch {
	case errors.Is(err, rpctypes.ErrFutureRev):
		return false, nil // A revision never falls.
	case errors.Is(err, rpctypes.ErrCompacted):
		return true, nil // If the next change was compacted as well, the watch tells.
	case err != nil:
		return false, err
	case !c.termGoesOn(get.Header.RaftTerm):
		return false, nil
	case change.After == nil:
		return len(get.Kvs) == 0, nil
	default:
		return len(get.Kvs) == 1 && get.Kvs[0].ModRevision == last && get.Kvs[0].Lease == change.After.Lease &&
			len(get.Kvs[0].Value) == change.After.Size &&
			strings.HasPrefix(string(get.Kvs[0].Value), change.After.Value), nil
	}
}

// look asks etcd, again and again, whether it can be used, and for its leases. It
// doubts the store when it was away, when its revision or term has fallen, and when
// the watch lags behind for ever.
func (c *Recorder) look() {
	const every, patience = 300 * time.Millisecond, time.Second
	failures := 0
	var stands int64 // where the record stood while etcd was ahead
	var since time.Time
	for c.ctx.Err() == nil {
		record := c.Record()
		before := record.Last()
		ctx, cancel := context.WithTimeout(c.ctx, askLimit)
		get, err := c.client.Get(ctx, "\x00", clientv3.WithCountOnly())
		if err == nil && before > 0 {
			err = c.askLeases(ctx, record, get.Header.RaftTerm)
		}
		cancel()
		now := record.Last()
		switch {
		case c.ctx.Err() != nil:
			return
		case err != nil:
			// Of several members one may be gone or paused: the next try may go to
			// another.
			if failures++; failures >= 2 || !c.anyAnswers() {
				c.setTrouble(err)
			}
		default:
			c.setTrouble(nil)
			switch {
			case before == 0 || record != c.Record():
			case failures > 0 || get.Header.Revision < before || !c.termGoesOn(get.Header.RaftTerm):
				signal(c.doubt)
			case get.Header.Revision <= now || now != stands:
				stands, since = now, time.Now()
			case time.Since(since) > patience:
				signal(c.doubt)
				since = time.Now()
			}
			failures = 0
		}
		select {
		case <-c.ctx.Done():
		case <-time.After(every):
		case <-c.lost:
			pause(c.ctx, 20*time.Millisecond) // Soon, but not for every single change.
		}
	}
}

// Trouble returns why etcd cannot be used, or nil when it can. A user who may not read all
// keys is told the right that is missing; the error is still rpctypes.ErrPermissionDenied.
func (c *Recorder) Trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

func (c *Recorder) setTrouble(err error) {
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		err = fmt.Errorf("%w: the user needs the right to read all keys: "+
			"etcdctl role grant-permission ROLE read \"\" --prefix", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if fmt.Sprint(err) != fmt.Sprint(c.trouble) {
		c.news.tell()
	}
	c.trouble = err
}

// termGoesOn reports whether a raft term is not lower than one that was seen.
func (c *Recorder) termGoesOn(term uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.term
	c.term = max(c.term, term)
	return term >= before
}

// pause returns after a time, or when ctx is over.
func pause(ctx context.Context, long time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(long):
	}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
