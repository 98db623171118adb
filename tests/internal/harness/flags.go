package harness

import (
	"flag"
	"math/rand/v2"
	"testing"
)

var seed = flag.Uint64("seed", 0, "repeat a run that failed with this `seed`; 0 takes a new one")

// Random returns the source of all that a test does at random. When the test
// fails, it says how to do the same again.
func Random(t testing.TB) *rand.Rand {
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

// Update reports whether the pages, tables and pictures are to be written anew.
func Update() bool { return *update }

var update = flag.Bool("update", false, "rewrite the transcripts of the pages, and the pictures of their runs")
