package harness

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Soon returns a context that ends before anybody would call a test hung.
func Soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Eventually fails the test when condition does not become true within limit.
func Eventually(t testing.TB, limit time.Duration, what string,
	condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// NoError fails the test when there is an error.
func NoError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Refused fails the test when err does not have the text, or is not nil when there
// is none.
func Refused(t *testing.T, err error, text string) {
	t.Helper()
	switch {
	case text == "" && err != nil:
		t.Errorf("refused: %v", err)
	case text != "" && err == nil:
		t.Error("it passes")
	case text != "" && !strings.Contains(err.Error(), text):
		t.Errorf("refused for another reason than %q: %v", text, err)
	}
}
