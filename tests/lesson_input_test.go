package tests

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestFlagsOutOfRange gives lessons values that make no sense. Each says so in
// one line, and leaves etcd as it is.
func TestFlagsOutOfRange(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	for _, c := range []struct{ lesson, flag, value string }{
		{"05-lease", "-ttl", "-5"},
		{"05-lease", "-ttl", "0"},
		{"05-lease", "-ttl", "3601"},
		{"06-watch", "-for", "0s"},
		{"06-watch", "-for", "-1m"},
		{"08-txn-lock", "-name", ""},
		{"08-txn-lock", "-ttl", "0"},
		{"08-txn-lock", "-work", "-5s"},
	} {
		got := harness.Run(t, etcd.Endpoints()[0], nil, c.lesson, c.flag, c.value)
		got.Want(t, 1, "", c.flag)
		oneLine(t, got.Stderr)
		if got.Stdout != "" || !strings.Contains(got.Stderr, "want") {
			t.Errorf("%s %s %q\n%s%s", c.lesson, c.flag, c.value, got.Stdout, got.Stderr)
		}
	}
	get, err := client.Get(etcdtest.Soon(t), "/")
	etcdtest.NoError(t, err)
	if get.Header.Revision != 1 {
		t.Errorf("etcd was changed: it is at revision %d", get.Header.Revision)
	}
	harness.NoLeases(t, client)
}

// TestArguments gives a lesson what it does not take.
func TestArguments(t *testing.T) {
	t.Parallel()
	got := harness.Run(t, harness.Nobody, nil, "05-lease", "-ttl", "2", "now")
	got.Want(t, 2, "", `unknown argument "now"`)
	got.Want(t, 2, "", "-ttl seconds")
}

// TestOwnPrefix runs all lessons as a user who may touch nothing but a prefix,
// while somebody else holds a lease with a key that the user may not read.
func TestOwnPrefix(t *testing.T) {
	etcdtest.NeedsLong(t, "all lessons")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	root := etcdtest.Connect(t, etcd.Endpoints()...)
	const prefix = "/class/ann/"
	lease, err := root.Grant(etcdtest.Soon(t), 600)
	etcdtest.NoError(t, err)
	if _, err := root.Put(etcdtest.Soon(t), "/class/ben/secret", "", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	_, err = root.RoleAdd(etcdtest.Soon(t), "ann")
	etcdtest.NoError(t, err)
	_, err = root.RoleGrantPermission(etcdtest.Soon(t), "ann", prefix,
		clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
	etcdtest.NoError(t, err)
	_, err = root.UserAdd(etcdtest.Soon(t), "ann", "secret")
	etcdtest.NoError(t, err)
	_, err = root.UserGrantRole(etcdtest.Soon(t), "ann", "ann")
	etcdtest.NoError(t, err)
	harness.EnableAuth(t, root, "secret")
	env := []string{harness.Patient, "ETCDCTL_USER=ann:secret", "ETCD_NAMESPACE=/class/ann"}
	for _, lesson := range harness.Lessons {
		harness.Run(t, etcd.Endpoints()[0], env, lesson, quick[lesson]...).Want(t, 0, "", "")
	}
	harness.Run(t, etcd.Endpoints()[0], env[:2], "01-connect").Want(t, 1, "", "permission denied")
}

// TestConcurrency runs the program that README.md takes its lines about the
// package concurrency from.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	got := harness.Run(t, etcd.Endpoints()[0], nil, "concurrency")
	got.Want(t, 0, "put /cron/jobs/job9 as the owner of the lock\n", "")
	get, err := client.Get(etcdtest.Soon(t), "/cron/jobs/job9")
	etcdtest.NoError(t, err)
	if get.Count != 1 || string(get.Kvs[0].Value) != "done" {
		t.Errorf("the result is %v", get.Kvs)
	}
	harness.NoLeases(t, client)
}
