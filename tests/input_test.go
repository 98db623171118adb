package tests

import (
	"os/exec"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
)

// TestFlagsOutOfRange gives lessons values that make no sense. Each says so in
// one line, and leaves etcd as it is.
func TestFlagsOutOfRange(t *testing.T) {
	parallel(t)
	etcd := startEtcd(t, cluster.Config{})
	client := connect(t, etcd.Endpoints()...)
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
		got := run(t, etcd.Endpoints()[0], nil, c.lesson, c.flag, c.value)
		if got.status != 1 || got.stdout != "" || !strings.Contains(got.stderr, "want") ||
			!strings.Contains(got.stderr, c.flag) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%s %s %q: status %d\n%s%s",
				c.lesson, c.flag, c.value, got.status, got.stdout, got.stderr)
		}
	}
	get, err := client.Get(soon(t), "/")
	if err != nil {
		t.Fatal(err)
	}
	if get.Header.Revision != 1 {
		t.Errorf("etcd was changed: it is at revision %d", get.Header.Revision)
	}
	noLeases(t, client)
}

// TestOwnPrefix runs all lessons as a user who may touch nothing but a prefix,
// while somebody else holds a lease with a key that the user may not read.
func TestOwnPrefix(t *testing.T) {
	parallel(t)
	etcd := startEtcd(t, cluster.Config{})
	root := connect(t, etcd.Endpoints()...)
	const prefix = "/class/ann/"
	lease, err := root.Grant(soon(t), 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Put(soon(t), "/class/ben/secret", "", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { _, err := root.RoleAdd(soon(t), "ann"); return err },
		func() error {
			_, err := root.RoleGrantPermission(soon(t), "ann", prefix,
				clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := root.UserAdd(soon(t), "ann", "secret"); return err },
		func() error { _, err := root.UserGrantRole(soon(t), "ann", "ann"); return err },
		func() error { _, err := root.UserAdd(soon(t), "root", "secret"); return err },
		func() error { _, err := root.UserGrantRole(soon(t), "root", "root"); return err },
		func() error { _, err := root.AuthEnable(soon(t)); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{patient, "ETCDCTL_USER=ann:secret", "ETCD_NAMESPACE=/class/ann"}
	for _, lesson := range lessons {
		got := run(t, etcd.Endpoints()[0], env, lesson, quick[lesson]...)
		if got.status != 0 || got.stderr != "" {
			t.Errorf("%s: status %d\n%s%s", lesson, got.status, got.stdout, got.stderr)
		}
	}
	got := run(t, etcd.Endpoints()[0], env[:2], "01-connect")
	if got.status != 1 || !strings.Contains(got.stderr, "permission denied") {
		t.Errorf("outside the prefix: status %d\n%s%s", got.status, got.stdout, got.stderr)
	}
}

// TestConcurrency runs the program that README.md takes its lines about the
// package concurrency from.
func TestConcurrency(t *testing.T) {
	parallel(t)
	etcd := startEtcd(t, cluster.Config{})
	client := connect(t, etcd.Endpoints()...)
	cmd := exec.CommandContext(soon(t), "go", "run", "./testdata/concurrency")
	cmd.Env = plainEnv("ETCDCTL_ENDPOINTS=" + etcd.Endpoints()[0])
	output, err := cmd.CombinedOutput()
	if err != nil || string(output) != "put /cron/jobs/job9 as the owner of the lock\n" {
		t.Errorf("%v\n%s", err, output)
	}
	get, err := client.Get(soon(t), "/cron/jobs/job9")
	if err != nil {
		t.Fatal(err)
	}
	if get.Count != 1 || string(get.Kvs[0].Value) != "done" {
		t.Errorf("the result is %v", get.Kvs)
	}
	noLeases(t, client)
}
