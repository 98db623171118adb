package main

import (
	"context"
	"io"
	"os"
	"testing"
)

// untilStdinEnds returns a context that ends with standard input, or before when it
// is stopped.
func untilStdinEnds(t *testing.T) (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(t.Context())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return ctx, stop
}
