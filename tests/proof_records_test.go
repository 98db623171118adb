package tests

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
)

// keepFile returns a file for what a test sees. It is named when the test fails, and
// else removed.
func keepFile(t testing.TB, kind string) *os.File {
	t.Helper()
	file, err := os.CreateTemp(etcdtest.Lasting, strings.ReplaceAll(t.Name(), "/", "-")+"-*."+kind)
	etcdtest.NoError(t, err)
	t.Cleanup(func() {
		file.Close()
		if t.Failed() {
			t.Logf("what was seen is in %s", file.Name())
			return
		}
		os.Remove(file.Name())
	})
	return file
}

// keep saves what a test has seen when it fails.
func keep(t testing.TB, kind string, save func(io.Writer) error) {
	t.Helper()
	file := keepFile(t, kind)
	t.Cleanup(func() {
		if t.Failed() {
			if err := save(file); err != nil {
				t.Errorf("keep what was seen: %v", err)
			}
		}
	})
}

// decode returns what is in a file of JSON.
func decode[T any](t testing.TB, file *os.File) (all []T) {
	t.Helper()
	for decoder := json.NewDecoder(file); ; {
		var one T
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		etcdtest.NoError(t, err)
		all = append(all, one)
	}
}

// recordEtcd returns a recorder that has read the store, and the record that it began
// then, which is kept when the test fails.
func recordEtcd(t *testing.T, source history.Source) (*history.Recorder, *history.Record) {
	t.Helper()
	recorder, err := history.Start(t.Context(), source)
	etcdtest.NoError(t, err)
	t.Cleanup(recorder.Close)
	etcdtest.Eventually(t, "the store is read", func() bool { return recorder.Record().Last() > 0 })
	record := recorder.Record()
	keep(t, "history", record.Save)
	return recorder, record
}

// awaitRevision returns when the record has come to a revision. It fails the test when
// the recorder has begun another one.
func awaitRevision(t testing.TB, recorder *history.Recorder, record *history.Record, revision int64) {
	t.Helper()
	etcdtest.Within(t, 5*time.Minute, "the record goes on", func() bool {
		return record.Last() >= revision || recorder.Record() != record
	})
	if recorder.Record() != record {
		t.Fatal("the record was begun anew")
	}
}

// repeat has goroutines do the same again and again, each with a source of chance of its
// own, until stop is called, which waits for them.
func repeat(t testing.TB, goroutines int, random *rand.Rand,
	do func(ctx context.Context, n int, random *rand.Rand)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for n := range goroutines {
		random := rand.New(rand.NewPCG(random.Uint64(), 0))
		working.Go(func() {
			for ctx.Err() == nil {
				do(ctx, n, random)
			}
		})
	}
	stop = func() {
		cancel()
		working.Wait()
	}
	t.Cleanup(stop)
	return stop
}
