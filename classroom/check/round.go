package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/history"
)

// round is a scenario that is being played. Its methods are called by the scenario
// alone, in one goroutine. They do not return errors: a method that cannot go on ends
// the scenario, with a refusal of the program or with the judge's own failure.
type round struct {
	scenario
	ctx    context.Context
	binary string

	etcd     *cluster.Cluster
	client   *clientv3.Client // past all relays
	recorder *history.Recorder
	programs []*program
	strikes  []*strike
	sprung   chan *strike   // those whose call has come
	woken    chan struct{}  // is told when a program has printed something, or ended
	ours     map[int64]bool // the judge's own revisions
	began    time.Time

	// What is left when it has ended. An err is a failure of the judge.
	events  []Event
	refused *refusal
	record  *history.Record
	took    time.Duration
	err     error

	// slow is how many times slower than a quiet machine this one was when the round began.
	slow int
}

// refusal and failure end a scenario: it panics with one of them.
type refusal struct {
	rule, text string
	revision   int64
}

type failure struct{ error }

const (
	// clusterLimit is for starting members, on a busy machine.
	clusterLimit = time.Minute

	// judgeLimit bounds each wait of the judge for etcd itself.
	judgeLimit = 20 * time.Second
)

// run plays the round, and returns when nothing of it runs any more.
func (r *round) run() {
	r.began = time.Now()
	defer func() { r.took = time.Since(r.began) }()
	r.ours = map[int64]bool{}
	r.sprung, r.woken = make(chan *strike, mostStrikes), make(chan struct{}, 1)
	ctx, cancel := context.WithTimeout(r.ctx, clusterLimit)
	defer cancel()
	var err error
	// Members are killed here, but never the machine: what they have written stays.
	config := cluster.Config{Members: r.members, Args: []string{"--unsafe-no-fsync"}}
	if r.etcd, err = cluster.Start(ctx, config); err != nil {
		r.err = fmt.Errorf("start an etcd: %w", err)
		return
	}
	r.slow = slowness(time.Since(r.began), r.members)
	defer func() { r.err = errors.Join(r.err, r.etcd.Close()) }()
	defer func() {
		if r.err != nil || r.refused != nil {
			// What came of an etcd that could not write is nobody's fault.
			r.err = cmp.Or(r.etcd.NoRoom(), r.err)
		}
	}()
	reach := clientv3.Config{Endpoints: r.etcd.Endpoints(), Logger: zap.NewNop()}
	if r.recorder, err = history.Start(r.ctx, history.Source{Etcd: reach}); err != nil {
		r.err = fmt.Errorf("record etcd: %w", err)
		return
	}
	defer func() { r.recorder.Close() }()
	r.client = r.recorder.Client()
	defer func() {
		for _, p := range r.programs {
			p.close()
		}
	}()
	defer func() {
		switch end := recover().(type) {
		case nil:
		case *refusal:
			r.refused = end
		case failure:
			r.err = end.error
		default:
			panic(end)
		}
	}()
	r.began = time.Now()
	r.sync()
	r.play(r)
	r.confirm()
}

// slowness is how many times slower than a quiet machine one is that takes so long to
// start so many members, beside those of other rounds.
func slowness(took time.Duration, members int) int {
	usual := 1500 * time.Millisecond
	if members > 1 {
		usual = 4 * time.Second // They elect a leader.
	}
	return min(1+int(took/usual), 8)
}

// granted is what a program is given that would have the limit on a quiet machine: one
// that is right must not be refused because the learner's laptop is slow.
func (r *round) granted(limit time.Duration) time.Duration { return limit * time.Duration(r.slow) }

// confirm fails when a strike did not happen, or could not be judged.
func (r *round) confirm() {
	for _, s := range r.strikes {
		if !s.struck {
			r.fail(fmt.Errorf("the program was not struck: %s never came", s.what))
		}
	}
	if first := r.history().First(); first != 1 {
		r.fail(fmt.Errorf("%w: it begins at revision %d", history.ErrForgotten, first))
	}
}

// fail ends the round with an error of the judge.
func (r *round) fail(err error) { panic(failure{err}) }

// must ends the round with an error of the judge, when there is one.
func (r *round) must(err error) {
	if err == nil {
		return
	}
	if r.ctx.Err() != nil {
		err = context.Cause(r.ctx)
	}
	r.fail(err)
}

// refuse ends the round: the program is wrong, at a revision or, when that is 0, at
// none. The sentences continue what was told of the round.
func (r *round) refuse(revision int64, format string, args ...any) {
	r.sync() // So that the record that is kept has all.
	r.record = r.history()
	for _, p := range r.programs {
		if p.out.isCut() || p.said.isCut() {
			format, args = printedTooMuch, []any{outputLimit >> 20}
		}
	}
	text := fmt.Sprintf(format, args...)
	for _, e := range r.events {
		r.record.Note(e.Revision, e.Text, r.began.Add(e.After))
	}
	r.record.Note(cmp.Or(revision, r.record.Last()), text, time.Now())
	panic(&refusal{rule: format, text: text, revision: revision})
}

// printedTooMuch is in the place of what was found in a program whose output was cut: that
// may be what was cut.
const printedTooMuch = "The program has printed more than %d MiB, and not all of it was read. " +
	"It may be right: who could find in there what it has to say?"

// tell adds a sentence to the story: something was done to the program.
func (r *round) tell(format string, args ...any) {
	r.events = append(r.events, Event{After: time.Since(r.began),
		Revision: r.history().Last(), Text: fmt.Sprintf(format, args...)})
}

// soon bounds a call of the judge to etcd.
func (r *round) soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.ctx, judgeLimit)
}

// commit makes one revision of the judge's own, and returns it.
func (r *round) commit(ops ...clientv3.Op) int64 {
	ctx, cancel := r.soon()
	defer cancel()
	txn, err := r.client.Txn(ctx).Then(ops...).Commit()
	r.must(err)
	r.ours[txn.Header.Revision] = true
	r.syncTo(txn.Header.Revision)
	return txn.Header.Revision
}

// put puts keys, given as key and value in turn, in one revision, and returns it.
func (r *round) put(keysAndValues ...string) int64 {
	var ops []clientv3.Op
	for pair := range slices.Chunk(keysAndValues, 2) {
		ops = append(ops, clientv3.OpPut(pair[0], pair[1]))
	}
	return r.commit(ops...)
}

// delete deletes one key, and returns the revision.
func (r *round) delete(key string) int64 { return r.commit(clientv3.OpDelete(key)) }

// history is all that etcd did, as far as it was heard of.
func (r *round) history() *history.Record { return r.recorder.Record() }

// sync returns when all that etcd has done by now is in the history, and returns that
// revision.
func (r *round) sync() int64 {
	ctx, cancel := r.soon()
	defer cancel()
	get, err := r.client.Get(ctx, "/")
	r.must(err)
	r.syncTo(get.Header.Revision)
	return get.Header.Revision
}

func (r *round) syncTo(revision int64) {
	ctx, cancel := r.soon()
	defer cancel()
	for {
		begun, added := r.recorder.Next(), r.history().Next()
		if r.history().Last() >= revision {
			return
		}
		select {
		case <-begun: // Until the recorder has read the store, it has another record.
		case <-added:
		case <-ctx.Done():
			r.must(fmt.Errorf("etcd did not tell of revision %d within %v", revision, judgeLimit))
		}
	}
}

// changes returns the changes that others than the judge have made to keys with a
// prefix, by now.
func (r *round) changes(prefix string) []history.Change {
	return slices.DeleteFunc(r.all(prefix), func(c history.Change) bool { return r.ours[c.Revision] })
}

// all returns all changes to keys with a prefix, by now.
func (r *round) all(prefix string) []history.Change {
	changes, err := r.history().Changes(2, max(r.sync(), 2))
	if errors.Is(err, history.ErrFuture) && r.history().Last() == 1 {
		return nil
	}
	r.must(err)
	return slices.DeleteFunc(changes, func(c history.Change) bool { return !strings.HasPrefix(c.Key, prefix) })
}

// at is the store as it was after a revision.
func (r *round) at(revision int64) *history.Moment {
	moment, err := r.history().At(revision)
	r.must(err)
	return moment
}

// value returns the value of a key after a revision, and whether it was there.
func (r *round) value(revision int64, key string) (string, bool) {
	kv := r.at(revision).Get(key)
	if kv == nil {
		return "", false
	}
	return kv.Value, true
}

// leases are those that there are now.
func (r *round) leases() []clientv3.LeaseStatus {
	ctx, cancel := r.soon()
	defer cancel()
	list, err := r.client.Leases(ctx)
	r.must(err)
	return list.Leases
}

// revoke ends a lease. On a busy machine it may have ended by itself just now.
func (r *round) revoke(id clientv3.LeaseID) {
	ctx, cancel := r.soon()
	defer cancel()
	if _, err := r.client.Revoke(ctx, id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		r.must(err)
	}
}

// compact compacts the history, which the judge knows by then. It returns when what was
// compacted is gone: until then a watch might still tell of it.
func (r *round) compact(revision int64) {
	r.sync()
	ctx, cancel := r.soon()
	defer cancel()
	_, err := r.client.Compact(ctx, revision, clientv3.WithCompactPhysical())
	r.must(err)
}

// wait returns when the condition holds, and reports whether it did within limit. It
// is looked at whenever the history, or a program, has something new. Meanwhile the
// strikes are carried out as their calls come.
func (r *round) wait(limit time.Duration, holds func() bool) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		added := r.history().Next()
		if holds() {
			return true
		}
		select {
		case s := <-r.sprung:
			s.act(s.call)
			s.struck = true
		case <-added:
		case <-r.woken:
		case <-timeout.C:
			return holds()
		case <-r.ctx.Done():
			r.must(r.ctx.Err())
		}
	}
}

// wake tells whoever waits that there is something new.
func wake(woken chan<- struct{}) {
	select {
	case woken <- struct{}{}:
	default:
	}
}

// killLeader ends the member that leads, at once, as a crash does, and returns its
// index. Its relays refuse connections from then on.
func (r *round) killLeader() int {
	ctx, cancel := r.soon()
	defer cancel()
	for i, m := range r.etcd.Members {
		status, err := r.client.Status(ctx, m.Endpoint)
		r.must(err)
		if status.Leader == status.Header.MemberId {
			r.must(m.Kill())
			return i
		}
	}
	r.fail(errors.New("no member leads"))
	return 0
}
