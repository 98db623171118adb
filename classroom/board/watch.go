package board

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watch keeps the state up to date until the board is closed. It has no
// WithRequireLeader: while there is no leader, it waits.
func (b *Board) watch() {
	for b.ctx.Err() == nil {
		b.follow()
		pause(b.ctx, 200*time.Millisecond)
	}
}

// pause returns after a time, or when ctx is over.
func pause(ctx context.Context, long time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(long):
	}
}

// follow watches from the revision after the last one that was seen, or reads
// the present first. It returns when the watch has ended.
func (b *Board) follow() {
	begun, from := b.state.seen()
	if from == 0 {
		if b.load(begun) != nil {
			return
		}
		if begun, from = b.state.seen(); from == 0 {
			return
		}
	}
	// A watcher of its own has a connection of its own choice: that of the last
	// one may lead to a member that is paused.
	watcher := clientv3.NewWatcher(b.client)
	defer watcher.Close()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { watcher.Close() })()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-b.restart:
			cancel()
		case <-ended:
		}
	}()
	// The state knows what a key was before, so WithPrevKV would only make etcd
	// read it again.
	for answer := range watcher.Watch(ctx, "\x00", clientv3.WithFromKey(),
		clientv3.WithRev(from+1)) {
		if errors.Is(answer.Err(), rpctypes.ErrCompacted) {
			b.startAnew(begun)
			return
		}
		if answer.Err() != nil {
			return
		}
		if b.state.apply(begun, answer.Events, time.Now()) {
			b.askLeases()
		}
	}
}

// load reads the whole store, page by page, all at one revision.
func (b *Board) load(begun int) error {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	var items []*item
	var revision, total int64
	for from := "\x00"; len(items) < keptKeys; {
		get, err := b.client.Get(ctx, from, clientv3.WithFromKey(),
			clientv3.WithLimit(200), clientv3.WithRev(revision))
		if err != nil {
			return err
		}
		if revision == 0 {
			revision, total = get.Header.Revision, get.Count
		}
		for _, kv := range get.Kvs {
			items = append(items, newItem(kv))
		}
		if !get.More {
			break
		}
		from = string(get.Kvs[len(get.Kvs)-1].Key) + "\x00"
	}
	b.state.reset(begun, revision, total, items)
	b.askLeases()
	return nil
}

// startAnew forgets all, so that the watch begins with the present, unless the
// state has begun anew since that was found to be needed.
func (b *Board) startAnew(begun int) {
	if b.state.reset(begun, 0, 0, nil) {
		b.restartWatch()
	}
}

// followResets forgets the old store whenever the classroom has emptied it. Nothing
// but that tells the new store from the old one for sure: it may have come to the
// same revision before anybody asks.
func (b *Board) followResets(emptied <-chan struct{}) {
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-emptied:
			emptied = b.config.Cluster.Emptied()
			// The watch begins with the first change, so that it misses none.
			b.state.empty()
			b.restartWatch()
		}
	}
}

func (b *Board) restartWatch() { signal(b.restart) }
func (b *Board) askLeases()    { signal(b.ask) }

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
