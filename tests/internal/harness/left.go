package harness

import (
	"fmt"
	"os"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// PutNeighbours puts keys of somebody else next to the lessons' own, and above them. It
// returns what fails the test when they are not as they were.
func PutNeighbours(t testing.TB, client *clientv3.Client) (untouched func()) {
	t.Helper()
	for _, key := range []string{
		"/cron", "/cron/jobs", "/cron/jobs/", "/cron/jobs/a",
		"/cron/jobs/job1", "/cron/jobs/get", "/cron/jobs/delete",
		"/cron/jobs/delete-me-not", "/cron/jobs/lease/job2",
		"/cron/jobs/watch/mine", "/cron/jobs/zz", "/cron/lock/mine", "z",
	} {
		Put(t, client, key, "other")
	}
	list := func() string {
		get, err := client.Get(etcdtest.Soon(t), "", clientv3.WithFromKey())
		etcdtest.NoError(t, err)
		var list strings.Builder
		for _, kv := range get.Kvs {
			if string(kv.Value) == "other" {
				fmt.Fprintln(&list, string(kv.Key), kv.CreateRevision, kv.ModRevision)
			}
		}
		return list.String()
	}
	before := list()
	return func() {
		t.Helper()
		if after := list(); after != before {
			t.Errorf("keys of others before:\n%s\nand after:\n%s", before, after)
		}
	}
}

// Put puts a key, and returns the revision of that.
func Put(t testing.TB, client *clientv3.Client, key, value string) int64 {
	t.Helper()
	put, err := client.Put(etcdtest.Soon(t), key, value)
	etcdtest.NoError(t, err)
	return put.Header.Revision
}

// NoLeases fails the test when etcd knows a lease.
func NoLeases(t *testing.T, client *clientv3.Client) {
	t.Helper()
	leases, err := client.Leases(etcdtest.Soon(t))
	etcdtest.NoError(t, err)
	if len(leases.Leases) > 0 {
		t.Errorf("leases left: %v", leases.Leases)
	}
}

// NothingLeft fails the test when something was left in the folder.
func NothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	etcdtest.NoError(t, err)
	for _, file := range left {
		t.Errorf("left behind: %s", file.Name())
	}
}
