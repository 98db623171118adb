package tests

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
)

// keep saves what an etcd did in a file, and names it, when the test fails.
func keep(t testing.TB, record *history.Record) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		file, err := os.CreateTemp(etcdtest.Lasting, strings.ReplaceAll(t.Name(), "/", "-")+"-*.history")
		if err == nil {
			err = errors.Join(record.Save(file), file.Close())
		}
		if err != nil {
			t.Errorf("keep what etcd did: %v", err)
			return
		}
		t.Logf("what etcd did is in %s", file.Name())
	})
}

// record is a file of JSON lines: the history of what a test did and saw. Other
// processes may append to it as well. It is kept, and named, when the test fails.
type record struct {
	mu   sync.Mutex
	file *os.File
	err  error
}

func newRecord(t testing.TB) *record {
	t.Helper()
	file, err := os.CreateTemp(etcdtest.Lasting, strings.ReplaceAll(t.Name(), "/", "-")+"-*.jsonl")
	if err == nil {
		file.Close()
		file, err = os.OpenFile(file.Name(), os.O_APPEND|os.O_WRONLY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &record{file: file}
	t.Cleanup(func() {
		if err := file.Close(); err != nil || r.err != nil {
			t.Errorf("write %s: %v, %v", file.Name(), r.err, err)
		}
		if t.Failed() {
			t.Logf("the history is in %s", file.Name())
			return
		}
		os.Remove(file.Name())
	})
	return r
}

// add appends an entry; it may be called by several goroutines.
func (r *record) add(entry any) {
	line, err := json.Marshal(entry)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	if err != nil && r.err == nil {
		r.err = err
	}
}
