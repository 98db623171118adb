//go:build unix

package transcript

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/tests/internal/harness"
)

// recording is the history of a session's etcd, for a picture.
type recording struct {
	network  harness.Network
	client   *clientv3.Client
	recorder *history.Recorder
	cancel   context.CancelFunc
	until    chan int64 // up to which revision followLeases goes
	told     chan error // that it has, or why not
}

// startRecording begins a history of the etcd on the usual port, which has just been emptied.
// It returns when the recorder has read the store.
func startRecording(ctx context.Context, in harness.Network) (_ *recording, err error) {
	etcd := clientv3.Config{Endpoints: []string{harness.UsualEndpoint}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return in.Dial(ctx, "tcp", address)
		})}}
	r := &recording{network: in, until: make(chan int64, 1), told: make(chan error, 1)}
	ctx, r.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.client, err = clientv3.New(etcd); err != nil {
		return nil, err
	}
	if r.recorder, err = history.Start(ctx, history.Source{Etcd: etcd}); err != nil {
		return nil, err
	}
	for limit := time.After(stepLimit); ; {
		next := r.recorder.Next()
		if record := r.recorder.Record(); record.Last() > 0 {
			go func() { r.told <- r.followLeases(ctx, record) }()
			return r, nil
		}
		select {
		case <-next:
		case <-limit:
			return nil, fmt.Errorf("nothing is recorded within %v: %w", stepLimit, r.recorder.Trouble())
		}
	}
}

func (r *recording) close() {
	r.cancel()
	if r.recorder != nil {
		r.recorder.Close()
	}
	if r.client != nil {
		r.client.Close()
	}
}

// drawn returns the picture of all that etcd has done until now.
func (r *recording) drawn(ctx context.Context, title string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	get, err := r.client.Get(ctx, "any")
	if err != nil {
		return nil, fmt.Errorf("read the revision: %w", err)
	}
	r.until <- get.Header.Revision
	select {
	case err = <-r.told:
	case <-ctx.Done():
		err = fmt.Errorf("wait for revision %d: %w", get.Header.Revision, ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	record := r.recorder.Record()
	picture, err := drawing.New(record, drawing.Options{Title: title, To: get.Header.Revision})
	if err != nil {
		return nil, err
	}
	return picture.SVG()
}

// followLeases finds out how the leases end that the record hears of.
func (r *recording) followLeases(ctx context.Context, record *history.Record) error {
	ended := map[int64]bool{}
	expired := 0
	for from, until := record.First()+1, int64(0); ; {
		news := record.Next()
		last := record.Last()
		changes, err := record.Changes(from, last)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if c.After != nil || c.Before.Lease == 0 || ended[c.Before.Lease] {
				continue
			}
			asked := time.Now()
			lease, err := r.client.TimeToLive(ctx, clientv3.LeaseID(c.Before.Lease))
			if err != nil {
				return fmt.Errorf("ask for a lease: %w", err)
			}
			record.Look(history.Look{Lease: c.Before.Lease, Asked: asked, Answered: time.Now(),
				TTL: lease.GrantedTTL, Remaining: lease.TTL, Term: lease.RaftTerm})
			if lease.TTL >= 0 {
				continue
			}
			ended[c.Before.Lease] = true
			how := history.Revoked
			// etcd counts what has expired when it has deleted the keys.
			for limit := time.Now().Add(time.Second); how == history.Revoked && time.Now().Before(limit); {
				count, err := r.network.Metric(ctx, harness.UsualEndpoint, "etcd_debugging_server_lease_expired_total ", "")
				if err != nil {
					return err
				}
				if count > expired {
					expired, how = count, history.Expired
				}
				time.Sleep(20 * time.Millisecond)
			}
			record.Settle(c.Before.Lease, how)
		}
		if from = last + 1; until > 0 && from > until {
			return nil
		}
		select {
		case <-news:
		case until = <-r.until:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// draw draws the session's history until now, and writes it into the file of the
// block's picture with -update, or else compares the two.
func (p *player) draw(ctx context.Context, page *Page, b *Block) error {
	if p.recording == nil {
		return fmt.Errorf("%s is to be drawn, and no %s is before it", b.Picture, Emptying)
	}
	got, err := p.recording.drawn(ctx, "A run of "+b.Section)
	if err != nil {
		return fmt.Errorf("draw %s: %w", b.Picture, err)
	}
	p.recording.close()
	p.recording = nil
	file := filepath.Join(p.dir, filepath.FromSlash(path.Join(path.Dir(page.Name), b.Picture)))
	want, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(got, want):
		return nil
	case p.update:
		return os.WriteFile(file, got, 0o644)
	case err != nil:
		return err
	}
	return fmt.Errorf("%s differs from what this run has done; to draw it anew:\n"+
		"go test -count=1 ./tests -run 'Pages/%s/%s' -update", b.Picture, page.Name, b.Section)
}
