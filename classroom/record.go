package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/shared"
)

// record follows the etcd that the environment names until ctx ends, and saves into a
// file what it did.
func record(ctx context.Context, file string) error {
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	etcd, err := shared.Config()
	if err != nil {
		return err
	}
	if err := shared.Check(ctx, etcd); err != nil {
		return err
	}
	// It goes on after Ctrl-C, to record what was done before.
	recorder, err := history.Start(context.WithoutCancel(ctx), history.Source{Etcd: *etcd})
	if err != nil {
		return err
	}
	defer recorder.Close()
	kept, err := follow(ctx, recorder)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if kept == nil {
		return errors.New("record: interrupted before the store was read")
	}
	if err := catchUp(kept, recorder.Client(), etcd.DialTimeout); err != nil {
		fmt.Fprintln(os.Stderr, "classroom: the end may be missing:", err)
	}
	if err := save(kept, file); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	fmt.Printf("Saved: revisions %d to %d.\n", kept.First(), kept.Last())
	return nil
}

// follow says what is recorded, and what stands in the way, until ctx ends. It returns
// the last record, or nil when there is none. The error says that none can be begun.
func follow(ctx context.Context, recorder *history.Recorder) (kept *history.Record, err error) {
	var told string
	for {
		next := recorder.Next()
		if now := recorder.Record(); now.Last() > 0 && now != kept {
			if kept != nil {
				fmt.Println("The store is another one now: what was recorded before is forgotten.")
			}
			fmt.Printf("Recording from revision %d on. Ctrl-C ends it.\n", now.First())
			kept = now
		}
		// Others than this user have to mend that.
		if err := recorder.Trouble(); kept == nil && errors.Is(err, rpctypes.ErrPermissionDenied) {
			return nil, err
		}
		trouble := ""
		if err := recorder.Trouble(); err != nil {
			trouble = err.Error()
		}
		if trouble != told && trouble != "" {
			fmt.Fprintln(os.Stderr, "classroom: etcd cannot be used, waiting for it:", trouble)
		}
		told = trouble
		select {
		case <-next:
		case <-ctx.Done():
			return kept, nil
		}
	}
}

// catchUp returns when the record has come to the revision of its store.
func catchUp(kept *history.Record, client *clientv3.Client, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	get, err := client.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("read the revision: %w", err)
	}
	for {
		next := kept.Next()
		if kept.Last() >= get.Header.Revision {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("the store is at revision %d: %w", get.Header.Revision, ctx.Err())
		}
	}
}

// save writes a record into a file, which has all of it or is as it was.
func save(kept *history.Record, file string) (err error) {
	part, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(part.Name())
		}
	}()
	if err := errors.Join(kept.Save(part), part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), file)
}
