package etcdtest

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Limit bounds every wait for something that is to happen. A machine that is many times
// slower than it should be does not miss it.
const Limit = 2 * time.Minute

// Soon returns a context that ends after Limit. It is for what is done at the end of a
// test as well.
func Soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Limit)
	t.Cleanup(cancel)
	return ctx
}

// Eventually fails the test when condition does not become true within Limit.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	Within(t, Limit, what, condition)
}

// Within is Eventually for what has to wait for more than one event.
func Within(t testing.TB, limit time.Duration, what string, condition func() bool) {
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
func Refused(t testing.TB, err error, text string) {
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
