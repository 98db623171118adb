package tests

import (
	"os"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/tests/internal/harness"
)

func TestZZ(t *testing.T) {
	e, err := check.Find("08")
	if err != nil {
		t.Fatal(err)
	}
	source, _ := os.ReadFile(harness.Root + "/exercises/" + os.Getenv("ZZ"))
	binary := buildCandidate(t, e.Name, string(source))
	begun := time.Now()
	result, err := check.Run(t.Context(), e, binary, harness.Env(), nil)
	t.Log(time.Since(begun), err, result.Passed, result.Text)
	for _, s := range result.Stories {
		t.Log(s.Round, s.Took)
		for _, e := range s.Events {
			t.Log("   ", e.After, e.Text)
		}
	}
}
