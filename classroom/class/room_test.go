package class

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// TestRoom has a learner fill the database, which nobody can keep them from, and the
// teacher end it: with what is past, it is enough to make room; with what is there, the
// learner's keys have to go first.
func TestRoom(t *testing.T) {
	t.Parallel()
	c, _ := open(t, 1, "--quota-backend-bytes=16777216")
	ann, bob := join(t, c, "ann"), join(t, c, "bob")
	value := strings.Repeat("x", 1<<20)
	fill := func(key func(i int) string) {
		t.Helper()
		for i := range 100 {
			_, err := ann.Put(etcdtest.Soon(t), key(i), value)
			if errors.Is(err, rpctypes.ErrNoSpace) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := bob.Put(etcdtest.Soon(t), "bob:/a", ""); !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Fatalf("bob writes into a full database: %v", err)
		}
	}
	writes := func() error {
		_, err := bob.Put(etcdtest.Soon(t), "bob:/a", strings.Repeat("x", 1<<10))
		return err
	}

	fill(func(int) string { return "ann:/big" })
	if err := c.Room(etcdtest.Soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := writes(); err != nil {
		t.Errorf("bob, after room was made: %v", err)
	}

	fill(func(i int) string { return fmt.Sprint("ann:/big", i) })
	if err := c.Room(etcdtest.Soon(t)); err != nil {
		t.Fatal(err)
	}
	fill(func(i int) string { return fmt.Sprint("ann:/more", i) }) // What is there, is still there.
	if _, err := c.Reset(etcdtest.Soon(t), "ann"); err != nil {
		t.Fatal(err)
	}
	if err := c.Room(etcdtest.Soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := writes(); err != nil {
		t.Errorf("bob, after ann's keys are gone: %v", err)
	}
	if got, err := bob.Get(etcdtest.Soon(t), "bob:", clientv3.WithPrefix()); err != nil || got.Count != 1 {
		t.Errorf("bob's keys: %v (%v)", got, err)
	}
}
