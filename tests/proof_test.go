package tests

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
)

var (
	long = flag.Bool("long", false, "run the proofs at full length, and what takes minutes")
	seed = flag.Uint64("seed", 0, "repeat a run that failed with this `seed`; 0 takes a new one")
)

// random returns the source of all that a test does at random. When the test
// fails, it says how to do the same again.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	chosen := *seed
	if chosen == 0 {
		chosen = 1 + rand.Uint64N(1<<32)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat this with -run '^%s$' -seed %d", t.Name(), chosen)
		}
	})
	return rand.New(rand.NewPCG(chosen, 0))
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
	file, err := os.CreateTemp("", strings.ReplaceAll(t.Name(), "/", "-")+"-*.jsonl")
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
