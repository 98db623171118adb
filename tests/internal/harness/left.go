package harness

import (
	"fmt"
	"os"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// PutNeighbours puts keys of somebody else next to the lessons' own, and above
// them.
func PutNeighbours(t *testing.T, client *clientv3.Client) {
	t.Helper()
	for _, key := range []string{
		"/cron", "/cron/jobs", "/cron/jobs/", "/cron/jobs/a",
		"/cron/jobs/job1", "/cron/jobs/get", "/cron/jobs/delete",
		"/cron/jobs/delete-me-not", "/cron/jobs/lease/job2",
		"/cron/jobs/watch/mine", "/cron/jobs/zz", "/cron/lock/mine", "z",
	} {
		if _, err := client.Put(Soon(t), key, "other"); err != nil {
			t.Fatal(err)
		}
	}
}

// NoLeases fails the test when etcd knows a lease.
func NoLeases(t *testing.T, client *clientv3.Client) {
	t.Helper()
	leases, err := client.Leases(Soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(leases.Leases) > 0 {
		t.Errorf("leases left: %v", leases.Leases)
	}
}

// Neighbours lists the keys that no lesson owns, with their revisions.
func Neighbours(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	get, err := client.Get(Soon(t), "", clientv3.WithFromKey())
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

// NothingLeft fails the test when something was left in the folder.
func NothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range left {
		t.Errorf("left behind: %s", file.Name())
	}
}
