package class

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
)

// TestMain names a proxy that is not there, as a company or a campus does: who asks it
// gets nowhere. It is only asked for what is at another address than 127.0.0.1.
func TestMain(m *testing.M) {
	etcdtest.Main(m, func() error { return os.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") })
}

// open returns a class on an etcd of its own, with further arguments.
func open(t *testing.T, members int, args ...string) (*Class, *cluster.Cluster) {
	t.Helper()
	authority, err := OpenAuthority("")
	if err != nil {
		t.Fatal(err)
	}
	secure, err := authority.Secure()
	if err != nil {
		t.Fatal(err)
	}
	etcd := etcdtest.Etcd(t, cluster.Config{Members: members, Secure: secure, Args: slices.Concat(Limits, args)})
	var ports []int
	for _, endpoint := range etcd.Endpoints() {
		var port int
		if _, err := fmt.Sscanf(endpoint, "https://127.0.0.1:%d", &port); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	c, err := Open(etcdtest.Soon(t), Config{Authority: authority, Etcd: etcd.Client(), Ports: ports, Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, etcd
}

// learner is somebody who goes past the desk: they have the certificate.
type learner struct {
	*clientv3.Client
	name string
}

func join(t *testing.T, c *Class, name string) learner {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	code := c.Code("127.0.0.1")
	in, err := code.enter(etcdtest.Soon(t), name, key, false)
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(code.etcd(in))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return learner{client, name}
}

// TestWall has a learner who goes past the desk try what the page of a class promises
// that nobody can do to others, each on its own.
func TestWall(t *testing.T) {
	t.Parallel()
	c, _ := open(t, 1)
	ann, bob := join(t, c, "ann"), join(t, c, "bob")
	ctx := etcdtest.Soon(t)
	held, err := bob.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	for key, lease := range map[string]clientv3.LeaseID{"bob:/a": 0, "bob:/held": held.ID} {
		if _, err := bob.Put(ctx, key, "bob's", clientv3.WithLease(lease)); err != nil {
			t.Fatal(err)
		}
	}
	members, err := ann.MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	member := members.Members[0].ID
	endpoint := ann.Endpoints()[0]
	watch := func(key string, opts ...clientv3.OpOption) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		answer := <-ann.Watch(ctx, key, append(opts, clientv3.WithCreatedNotify())...)
		if err := answer.Err(); err != nil && err.Error() == rpctypes.ErrGRPCPermissionDenied.Error() {
			return rpctypes.ErrPermissionDenied // A watch tells it as text.
		}
		return answer.Err()
	}
	for _, try := range []struct {
		name string
		do   func() error
	}{
		{"get", func() error { _, err := ann.Get(ctx, "bob:/a"); return err }},
		{"get all", func() error { _, err := ann.Get(ctx, "", clientv3.WithPrefix()); return err }},
		{"get the past", func() error { _, err := ann.Get(ctx, "bob:/a", clientv3.WithRev(1)); return err }},
		{"get, serializable", func() error { _, err := ann.Get(ctx, "bob:/a", clientv3.WithSerializable()); return err }},
		{"get from one's own key on", func() error { _, err := ann.Get(ctx, "ann:", clientv3.WithFromKey()); return err }},
		{"count", func() error {
			_, err := ann.Get(ctx, "bob:", clientv3.WithPrefix(), clientv3.WithCountOnly())
			return err
		}},
		{"put", func() error { _, err := ann.Put(ctx, "bob:/a", "ann's"); return err }},
		{"put, to hear what was there", func() error { _, err := ann.Put(ctx, "bob:/b", "", clientv3.WithPrevKV()); return err }},
		{"delete", func() error { _, err := ann.Delete(ctx, "bob:/a"); return err }},
		{"delete all", func() error { _, err := ann.Delete(ctx, "", clientv3.WithPrefix()); return err }},
		{"compare", func() error {
			_, err := ann.Txn(ctx).If(clientv3.Compare(clientv3.Value("bob:/a"), "=", "x")).Commit()
			return err
		}},
		{"a transaction", func() error { _, err := ann.Txn(ctx).Then(clientv3.OpPut("bob:/a", "")).Commit(); return err }},
		{"a transaction's other branch", func() error { _, err := ann.Txn(ctx).Else(clientv3.OpGet("bob:/a")).Commit(); return err }},
		{"watch", func() error { return watch("bob:/a") }},
		{"watch all", func() error { return watch("", clientv3.WithPrefix()) }},
		{"the list of names", func() error { _, err := ann.Get(ctx, namesPrefix+"bob"); return err }},
		{"write a name down", func() error { _, err := ann.Put(ctx, namesPrefix+"ann", "removed"); return err }},
		{"say that another is there", func() error { _, err := ann.Put(ctx, herePrefix+"bob", ""); return err }},
		{"list users", func() error { _, err := ann.UserList(ctx); return err }},
		{"look at a user", func() error { _, err := ann.UserGet(ctx, rootUser); return err }},
		{"add a user", func() error { _, err := ann.UserAdd(ctx, "eve", "x"); return err }},
		{"give a role", func() error { _, err := ann.UserGrantRole(ctx, "ann", rootUser); return err }},
		{"look at a role", func() error { _, err := ann.RoleGet(ctx, "bob"); return err }},
		{"turn users off", func() error { _, err := ann.AuthDisable(ctx); return err }},
		{"compact", func() error { _, err := ann.Compact(ctx, 2); return err }},
		{"defragment", func() error { _, err := ann.Defragment(ctx, endpoint); return err }},
		{"take a snapshot", func() error {
			snapshot, err := ann.Snapshot(ctx)
			if err == nil {
				_, err = io.ReadAll(snapshot)
			}
			return err
		}},
		{"hash the store", func() error { _, err := ann.HashKV(ctx, endpoint, 0); return err }},
		{"add a member", func() error { _, err := ann.MemberAdd(ctx, []string{"http://127.0.0.1:1"}); return err }},
		{"remove a member", func() error { _, err := ann.MemberRemove(ctx, member); return err }},
		{"update a member", func() error { _, err := ann.MemberUpdate(ctx, member, []string{"http://127.0.0.1:1"}); return err }},
		{"move the leader", func() error { _, err := ann.MoveLeader(ctx, member); return err }},
		{"disarm an alarm", func() error { _, err := ann.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: member}); return err }},
		{"revoke a lease with keys", func() error { _, err := ann.Revoke(ctx, held.ID); return err }},
		{"renew a lease with keys", func() error { _, err := ann.KeepAliveOnce(ctx, held.ID); return err }},
		{"attach to a lease with keys", func() error { _, err := ann.Put(ctx, "ann:/a", "", clientv3.WithLease(held.ID)); return err }},
		{"the keys of a lease", func() error { _, err := ann.TimeToLive(ctx, held.ID, clientv3.WithAttachedKeys()); return err }},
		{"the list of leases", func() error { _, err := ann.Leases(ctx); return err }},
	} {
		if err := try.do(); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: %v, want %v", try.name, err, rpctypes.ErrPermissionDenied)
		}
	}
	got, err := bob.Get(ctx, "bob:", clientv3.WithPrefix())
	if err != nil || len(got.Kvs) != 2 || string(got.Kvs[0].Value) != "bob's" {
		t.Errorf("bob's keys are %v (%v)", got.Kvs, err)
	}

	// And what is possible, as the page says.
	free, err := bob.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"renew a lease without keys": func() error { _, err := ann.KeepAliveOnce(ctx, free.ID); return err }(),
		"write a key of the class":   func() error { _, err := ann.Put(ctx, "class:/a", "ann's"); return err }(),
		"delete a key of the class":  func() error { _, err := bob.Delete(ctx, "class:/a"); return err }(),
		"say that one is there":      func() error { _, err := ann.Put(ctx, herePrefix+"ann", ""); return err }(),
		"revoke one without keys":    func() error { _, err := ann.Revoke(ctx, free.ID); return err }(),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDoor has the class refuse who may not come in, with one sentence.
func TestDoor(t *testing.T) {
	t.Parallel()
	c, etcd := open(t, 1)
	code := c.Code("127.0.0.1")
	keyed := func() (enter func(code Code, name string, again bool) error) {
		key, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		return func(code Code, name string, again bool) error {
			_, err := code.enter(etcdtest.Soon(t), name, key, again)
			return err
		}
	}
	ann, bob := keyed(), keyed()
	for _, err := range []error{ann(code, "ann", false), ann(code, "ann", false), ann(code, "ann", true)} {
		if err != nil {
			t.Fatalf("the same name with the same key: %v", err)
		}
	}
	stranger := falseClass(t, "127.0.0.1:0", strangers(t))
	wrongSecret, wrongPrint := code, code
	wrongSecret.secret[3] = other(wrongSecret.secret[3])
	wrongPrint.print[11] = other(wrongPrint.print[11])
	falseServer := code
	falseServer.Address = stranger
	refuse := func(what string, err error, words string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", what, err, words)
		}
	}
	refuse("a taken name", bob(code, "ann", false), "is somebody else's")
	refuse("a wrong secret", bob(wrongSecret, "bob", false), "the last four characters of the code are wrong")
	refuse("a wrong fingerprint", bob(wrongPrint, "bob", false), "and was told nothing: compare the twelve characters")
	refuse("a false server", bob(falseServer, "bob", false), "not the class of this code, and was told nothing")
	// A learner has a certificate of the class's own authority.
	falseServer.Address = falseClass(t, "127.0.0.1:0", learners(t, c))
	refuse("a learner as a false server", bob(falseServer, "bob", false), "not the class of this code, and was told nothing")
	refuse("the class's own name", bob(code, Common, false), "belongs to the class")
	refuse("a name that is none", bob(code, "../ann", false), "cannot be a name")
	refuse("a name of nobody, again", bob(code, "bob", true), "was freed by the teacher")

	ctx := etcdtest.Soon(t)
	if err := c.Free(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	refuse("a freed name, by a desk that runs", ann(code, "ann", true), "was freed by the teacher")
	if err := bob(code, "ann", false); err != nil {
		t.Errorf("a freed name: %v", err)
	}
	refuse("a freed name, by who had it", ann(code, "ann", false), "is somebody else's")
	if err := c.Remove(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	refuse("a removed name", bob(code, "ann", false), "was removed from this class")
	refuse("a removed name, for a new key", keyed()(code, "ann", false), "was removed from this class")
	refuse("free a removed name", c.Free(ctx, "ann"), "was removed from this class")
	refuse("remove nobody", c.Remove(ctx, "eve"), "nobody in this class has the name eve")

	// Etcd itself takes nobody without a certificate.
	naked, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints(), TLS: code.print.known(nil), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer naked.Close()
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := naked.Get(short, "class:/a"); err == nil {
		t.Error("it takes who has no certificate")
	}
}

// TestClosedPorts lets somebody in who does not reach etcd, and is told where it is.
func TestClosedPorts(t *testing.T) {
	etcdtest.NeedsLong(t, "a desk waits until its time is over")
	t.Parallel()
	c, _ := open(t, 1)
	closed := freePort(t)
	c.ports = []int{closed}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := OpenDesk(short, DeskConfig{Code: c.Code("127.0.0.1"), Name: "eve", KeyFile: filepath.Join(t.TempDir(), "key"), Port: freePort(t), Tell: func(string) {}})
	if want := fmt.Sprintf("does not answer at 127.0.0.1:%d (", closed); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// TestDismissed checks that a certificate is worth nothing when its name was freed or
// removed, also on a connection that stands; but a watch goes on, as the page says.
func TestDismissed(t *testing.T) {
	t.Parallel()
	c, _ := open(t, 1)
	for name, dismiss := range map[string]func(context.Context, string) error{"freed": c.Free, "removed": c.Remove} {
		ann := join(t, c, name)
		key := Prefix(name) + "/a"
		ctx := etcdtest.Soon(t)
		if _, err := ann.Put(ctx, key, ""); err != nil {
			t.Fatal(err)
		}
		watch := ann.Watch(ctx, key, clientv3.WithCreatedNotify())
		<-watch
		if err := dismiss(ctx, name); err != nil {
			t.Fatal(err)
		}
		if _, err := ann.Get(ctx, key); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: get: %v", name, err)
		}
		kept, err := c.client.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int64{"freed": 1}[name]; kept.Count != want {
			t.Errorf("%s: %d keys are left, want %d", name, kept.Count, want)
		}
		if _, err := c.client.Put(ctx, key, "later"); err != nil {
			t.Fatal(err)
		}
		told := false
		for answer := range watch { // It is closed at the end of ctx.
			if told = slices.ContainsFunc(answer.Events, func(e *clientv3.Event) bool {
				return string(e.Kv.Value) == "later"
			}); told {
				break
			}
		}
		if !told {
			t.Errorf("%s: the watch has ended", name)
		}
	}
}

// TestTries checks that secrets cannot be tried out.
func TestTries(t *testing.T) {
	authority, err := OpenAuthority("")
	if err != nil {
		t.Fatal(err)
	}
	right := authority.secret
	wrong := right
	wrong[0] = other(wrong[0])
	synctest.Test(t, func(t *testing.T) {
		c := &Class{authority: authority, wrong: map[string]*rate.Limiter{}}
		const ann, bob = "192.168.1.7:50000", "192.168.1.8:50000"
		tries := func(want error, remote string, secret [4]byte) {
			t.Helper()
			if err := c.opens(remote, string(secret[:])); err != want {
				t.Errorf("from %s: %v, want %v", remote, err, want)
			}
		}
		for range triesAtOnce {
			tries(errSecret, ann, wrong)
		}
		tries(errTries, ann, wrong)
		// The right one is not looked at either: it would be found that way.
		tries(errTries, ann, right)
		tries(nil, bob, right)
		time.Sleep(tryEvery)
		tries(nil, ann, right)
	})
}

// TestKept checks that a class is the same one after a restart, and its learners too.
func TestKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	first, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !Kept(dir) || Kept(t.TempDir()) || Kept("") {
		t.Error("Kept does not tell the folder of a class from another")
	}
	second, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.print() != second.print() || first.secret != second.secret {
		t.Error("the code is another one")
	}
	name := filepath.Join(dir, authorityFile)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir); err == nil {
		t.Error("half a file is read")
	}
}

// TestCode checks that codes are read as they are written, and as people type them.
func TestCode(t *testing.T) {
	code := Code{"192.168.1.5:2378", fingerprint([]byte("D4174F2T7C0C")), secret([]byte("57V8"))}
	for typed, address := range map[string]string{
		code.String():                               "192.168.1.5:2378",
		"192.168.1.5:2378/d417-4f2t-7c0c-57v8":      "192.168.1.5:2378",
		"192.168.1.5:2378/D4l7-4F2T-7cOc-57V8":      "192.168.1.5:2378",
		"192.168.1.5/D4174F2T7C0C57V8":              "192.168.1.5:2378",
		"teacher.local:99/D417-4F2T-7C0C-57V8":      "teacher.local:99",
		"[fe80::1]:2378/D417-4F2T-7C0C-57V8":        "[fe80::1]:2378",
		"fe80::1/D417-4F2T-7C0C-57V8":               "[fe80::1]:2378",
		"192.168.1.5:2378/D417-4F2T-7C0C-57V":       "",
		"192.168.1.5:2378/D417-4F2T-7C0C-57VU":      "",
		"192.168.1.5:2378":                          "",
		"/D417-4F2T-7C0C-57V8":                      "",
		"192.168.1.5:/D417-4F2T-7C0C-57V8":          "",
		"192.168.1.5:2378:1/D417-4F2T-7C0C-57V8":    "",
		"192.168.1.5:2378/D417-4F2T-7C0C-57V8-0000": "",
	} {
		read, err := ParseCode(typed)
		if (err == nil) != (address != "") {
			t.Errorf("%s: %v", typed, err)
			continue
		}
		if err == nil && (read.Address != address || read.print != code.print || read.secret != code.secret) {
			t.Errorf("%s is read as %s", typed, read)
		}
	}
}

// other returns another digit.
func other(digit byte) byte {
	if digit == '0' {
		return '1'
	}
	return '0'
}

// strangers is what the class of somebody else shows.
func strangers(t *testing.T) *tls.Certificate {
	t.Helper()
	authority, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	shown, err := authority.server()
	if err != nil {
		t.Fatal(err)
	}
	return shown
}

// learners is what a learner of a class could show.
func learners(t *testing.T, c *Class) *tls.Certificate {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Code("127.0.0.1").enter(etcdtest.Soon(t), "mallory", key, false)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: append(in.cert.Certificate, c.authority.cert.Raw), PrivateKey: key}
}

// falseClass is a server, at an address, that shows a certificate. It fails the test when it is told
// anything.
func falseClass(t *testing.T, at string, shown *tls.Certificate) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		listener.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			secured := tls.Server(connection, &tls.Config{Certificates: []tls.Certificate{*shown}})
			secured.SetDeadline(time.Now().Add(etcdtest.Limit))
			if told, _ := io.ReadAll(secured); len(told) > 0 {
				t.Errorf("the false server was told %q", told)
			}
			secured.Close()
		}
	}()
	return listener.Addr().String()
}
