package etcdtest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Skip skips a test that need not run everywhere, not even in CI, and says why. Tests
// skip by no other way than these, so that .ci/run can tell what was left out.
func Skip(t testing.TB, why any) {
	t.Helper()
	line := strings.Join(strings.Fields(fmt.Sprint(why)), " ")
	if name := os.Getenv("SKIPPED"); name != "" {
		file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			// One write, because several processes append to the file.
			_, err = fmt.Fprintf(file, "%s: %s\n", t.Name(), line)
			file.Close()
		}
		if err != nil {
			t.Fatalf("note what is skipped: %v", err)
		}
	}
	t.Skip(line)
}

// SkipUnlessCI skips a test that lacks something which not every machine has. CI must
// have it: with CI set, the test fails.
func SkipUnlessCI(t testing.TB, why any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("in CI this test must run: %v", why)
	}
	Skip(t, why)
}

// NeedsLong skips a test without -long, which .ci/run gives in its second run. why says
// what it costs.
func NeedsLong(t testing.TB, why string) {
	t.Helper()
	if !Long() {
		t.Skipf("%s: it runs with -long", why)
	}
}

// NeedsNightly skips a test without -nightly, which .ci/nightly gives.
func NeedsNightly(t testing.TB, why string) {
	t.Helper()
	if !Nightly() {
		t.Skipf("%s: it runs with -nightly", why)
	}
}
