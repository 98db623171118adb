package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// follow hands over what is under a prefix now, and then each change to it, in
// order and without a gap, until ctx ends. When the history that is still to
// come was compacted away, it hands over the present again, which replaces all
// that came before. A store that was emptied is not noticed. It returns nil
// when ctx has ended. Otherwise the error says that the present could not be
// read in 20 s, or why trying again would not help.
func follow(ctx context.Context, client *clientv3.Client, prefix string,
	present func(*clientv3.GetResponse),
	changed func(clientv3.WatchResponse)) error {
	next := int64(0)    // the first revision to hand over; 0 for the present
	toldAt := int64(-1) // where it last said that it tries again
	for {
		var err error
		if next == 0 {
			next, err = read(ctx, client, prefix, present)
		} else {
			next, err = watch(ctx, client, prefix, next, changed)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			continue // Now watch, or watch on.
		case errors.Is(err, rpctypes.ErrCompacted):
			fmt.Println("the history was compacted: reading the present again")
			next = 0
		case errors.Is(err, rpctypes.ErrNoLeader), tokenExpired(err):
			if toldAt != next {
				toldAt = next
				fmt.Printf("%v: trying again\n", err)
			}
			// Without a pause it would ask thousands of times a second.
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		default:
			return err
		}
	}
}

// tokenExpired reports whether a watch was refused because a user's token is
// too old, of which the client is told in words alone. Watches of one client
// share a stream with the token that it began with, for as long as one goes on.
func tokenExpired(err error) bool {
	return strings.Contains(err.Error(), rpctypes.ErrInvalidAuthToken.Error())
}

// read hands over the present, and returns the revision after it. A member that
// has just lost its leader lets a question wait for 7 s, and the client asks on
// for 3 s before it says so: the limit has to be longer.
func read(ctx context.Context, client *clientv3.Client, prefix string,
	present func(*clientv3.GetResponse)) (int64, error) {
	ctx, cancel := context.WithTimeout(
		clientv3.WithRequireLeader(ctx), 20*time.Second)
	defer cancel()
	get, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", prefix, err)
	}
	present(get)
	return get.Header.Revision + 1, nil
}

// watch hands over the changes from revision next on. When it ends, it returns
// the revision at which the next watch has to begin, and why it ended.
func watch(ctx context.Context, client *clientv3.Client, prefix string,
	next int64, changed func(clientv3.WatchResponse)) (int64, error) {
	// Without a leader a member hears of no changes. This ends the watch then;
	// otherwise it would stay, and stay silent. Each watch has a context of its
	// own, so that the client gives up all that belongs to it.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	responses := client.Watch(ctx, prefix, clientv3.WithPrefix(),
		clientv3.WithPrevKV(), clientv3.WithRev(next))
	for response := range responses {
		if err := response.Err(); err != nil {
			return next, fmt.Errorf("watch %s: %w", prefix, err)
		}
		changed(response)
		// The header's revision would not do: while a watch catches up, it is
		// ahead of the events.
		for _, event := range response.Events {
			next = event.Kv.ModRevision + 1
		}
	}
	// The channel may be closed with no reason given: the client does not wait
	// long for somebody to take it. The next watch will tell.
	return next, client.Ctx().Err()
}
