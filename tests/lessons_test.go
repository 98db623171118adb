package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
)

// quick are the flags that shorten the waits of the lessons that have some.
var quick = map[string][]string{
	"05-lease":    {"-ttl", "1"},
	"06-watch":    {"-for", "4s"},
	"08-txn-lock": {"-work", "500ms", "-ttl", "1"},
}

// TestLessons runs each lesson alone, again, twice at the same time, and on a
// store that holds keys of others, which it must leave as they are.
func TestLessons(t *testing.T) {
	t.Parallel()
	for _, lesson := range lessons {
		t.Run(lesson, func(t *testing.T) {
			parallel(t)
			etcd := startEtcd(t, cluster.Config{})
			client := connect(t, etcd.Endpoints()...)
			putNeighbours(t, client)
			before := others(t, client)

			once := func() {
				got := run(t, etcd.Endpoints()[0], nil, lesson, quick[lesson]...)
				if got.status != 0 || got.stderr != "" {
					t.Errorf("status %d, stderr %q, stdout:\n%s",
						got.status, got.stderr, got.stdout)
				}
			}
			once()
			once()
			var both sync.WaitGroup
			both.Go(once)
			both.Go(once)
			both.Wait()

			noLeases(t, client)
			if after := others(t, client); after != before {
				t.Errorf("keys of others before:\n%s\nand after:\n%s", before, after)
			}
		})
	}
}

// putNeighbours puts keys of somebody else next to the lessons' own, and above
// them.
func putNeighbours(t *testing.T, client *clientv3.Client) {
	t.Helper()
	for _, key := range []string{
		"/cron", "/cron/jobs", "/cron/jobs/", "/cron/jobs/a",
		"/cron/jobs/job1", "/cron/jobs/get", "/cron/jobs/delete",
		"/cron/jobs/delete-me-not", "/cron/jobs/lease/job2",
		"/cron/jobs/watch/mine", "/cron/jobs/zz", "/cron/lock/mine", "z",
	} {
		if _, err := client.Put(soon(t), key, "other"); err != nil {
			t.Fatal(err)
		}
	}
}

// noLeases fails the test when etcd knows a lease.
func noLeases(t *testing.T, client *clientv3.Client) {
	t.Helper()
	leases, err := client.Leases(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(leases.Leases) > 0 {
		t.Errorf("leases left: %v", leases.Leases)
	}
}

// others lists the keys that no lesson owns, with their revisions.
func others(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	get, err := client.Get(soon(t), "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, kv := range get.Kvs {
		if string(kv.Value) == "other" {
			fmt.Fprintln(&list, string(kv.Key), kv.CreateRevision, kv.ModRevision)
		}
	}
	return list.String()
}

// TestLessonLeavesNoGoroutine runs every lesson's run function in a process of
// its own and looks for goroutines of the lesson once it has returned. The
// lesson folders hold nothing for that: the test is laid over them.
func TestLessonLeavesNoGoroutine(t *testing.T) {
	t.Parallel()
	for _, lesson := range lessons {
		t.Run(lesson, func(t *testing.T) {
			parallel(t)
			binary := overlaid(t, lesson, "goroutines_test.go")
			etcd := startEtcd(t, cluster.Config{})
			for _, how := range []string{"to the end", "interrupted"} {
				args := append([]string{"-test.v", "-test.timeout", "1m", "-test.run", "Goroutines"}, quick[lesson]...)
				cmd := exec.CommandContext(soon(t), binary, args...)
				cmd.Env = plainEnv("ETCDCTL_ENDPOINTS="+etcd.Endpoints()[0],
					"LESSON_ENDS="+how)
				output, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(output), "--- PASS") {
					t.Errorf("%s: %v\n%s", how, err, output)
				}
			}
		})
	}
}

// overlaid builds the test binary of a lesson with files of testdata laid over
// its folder, and returns its path.
func overlaid(t testing.TB, lesson string, names ...string) string {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join(root, lesson))
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, name := range append(names, lesson+"_test.go") {
		file, err := filepath.Abs(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); err == nil {
			overlay.Replace[filepath.Join(folder, name)] = file
		}
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, lesson+".test")
	build := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-overlay", file, "-o", binary, ".")
	build.Dir = folder
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", lesson, err, output)
	}
	return binary
}
