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
	"05-lease":    {"-ttl", "2"},
	"06-watch":    {"-for", "6s"},
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
			binary := overlaid(t, lesson)
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

// overlays are the files of testdata that are laid over a lesson's folder, beside
// goroutines_test.go, which is laid over all.
var overlays = map[string][]string{
	"06-watch":    {"follow_test.go"},
	"08-txn-lock": {"08-txn-lock_test.go", "contend_test.go"},
}

// binaries builds each lesson's test binary when it is first asked for.
var binaries = func() map[string]func() (string, error) {
	build := map[string]func() (string, error){}
	for _, lesson := range lessons {
		build[lesson] = sync.OnceValues(func() (string, error) { return buildOverlaid(lesson) })
	}
	return build
}()

// overlaid returns the path of a lesson's test binary, which has all files of
// testdata that fit the lesson laid over its folder.
func overlaid(t testing.TB, lesson string) string {
	t.Helper()
	binary, err := binaries[lesson]()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func buildOverlaid(lesson string) (string, error) {
	// The go command takes an overlay by absolute paths alone.
	folder, err := filepath.Abs(filepath.Join(root, lesson))
	if err != nil {
		return "", err
	}
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, name := range append(overlays[lesson], "goroutines_test.go") {
		overlay.Replace[filepath.Join(folder, name)] = filepath.Join(testdata, name)
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(built, lesson+".test")
	if err := os.WriteFile(binary+".json", list, 0o600); err != nil {
		return "", err
	}
	build := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-overlay", binary+".json", "-o", binary, ".")
	build.Dir = folder
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", lesson, err, output)
	}
	return binary, nil
}
