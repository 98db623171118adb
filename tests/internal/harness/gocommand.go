package harness

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// GoJSON decodes the JSON that a go command prints.
func GoJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	output, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	etcdtest.NoError(t, json.Unmarshal(output, into))
}
