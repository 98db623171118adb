package class

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/rpc"
)

// TestPrefixKnowsAllKeys fills every message that a desk hands on, and looks whether the
// prefix is before every key. A key in a message that a new version of etcd brings is
// found that way.
func TestPrefixKnowsAllKeys(t *testing.T) {
	const p prefix = "ann:"
	seen := 0
	for _, service := range []string{"KV", "Watch", "Lease"} {
		methods := pb.File_rpc_proto.Services().ByName(protoreflect.Name(service)).Methods()
		for i := range methods.Len() {
			method := methods.Get(i)
			for _, request := range filled(method.Input(), "b", 0) {
				p.put(request)
				keysOf(request.ProtoReflect(), func(key []byte) {
					seen++
					if !bytes.HasPrefix(key, []byte(p)) {
						t.Errorf("%s: %q has no prefix in %v", method.FullName(), key, request)
					}
				})
			}
			for _, answer := range filled(method.Output(), string(p)+"b", 0) {
				p.strip(answer)
				keysOf(answer.ProtoReflect(), func(key []byte) {
					seen++
					if bytes.HasPrefix(key, []byte(p)) {
						t.Errorf("%s: %q has the prefix in %v", method.FullName(), key, answer)
					}
				})
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d keys were looked at", seen)
	}
}

// filled returns messages of a kind with all fields set, one for each choice of a oneof.
// Bytes are key.
func filled(kind protoreflect.MessageDescriptor, key string, depth int) (all []proto.Message) {
	empty := rpc.Message(kind)
	all = []proto.Message{empty}
	if depth == 4 {
		return all
	}
	fields := kind.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		var values []protoreflect.Value
		switch {
		case field.Kind() == protoreflect.BytesKind:
			values = append(values, protoreflect.ValueOfBytes([]byte(key)))
		case field.Message() != nil && !field.IsMap():
			for _, inner := range filled(field.Message(), key, depth+1) {
				values = append(values, protoreflect.ValueOfMessage(inner.ProtoReflect()))
			}
		}
		if len(values) == 0 {
			continue
		}
		before := all
		if field.ContainingOneof() == nil {
			all = nil
		}
		// Choices that lie side by side are not combined: the first stands for them.
		for n, value := range values {
			for _, m := range before {
				if n > 0 {
					m = before[0]
				}
				m = proto.Clone(m)
				if field.IsList() {
					m.ProtoReflect().Mutable(field).List().Append(value)
				} else {
					m.ProtoReflect().Set(field, value)
				}
				all = append(all, m)
				if n > 0 {
					break
				}
			}
		}
	}
	return all
}

// keysOf calls found with each key in a message.
func keysOf(m protoreflect.Message, found func([]byte)) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := field.Name()
		isKey := name == "key" || name == "range_end" || name == "keys"
		switch {
		case field.Kind() == protoreflect.BytesKind && isKey && field.IsList():
			for i := range value.List().Len() {
				found(value.List().Get(i).Bytes())
			}
		case field.Kind() == protoreflect.BytesKind && isKey:
			found(value.Bytes())
		case field.Message() != nil && field.IsList():
			for i := range value.List().Len() {
				keysOf(value.List().Get(i).Message(), found)
			}
		case field.Message() != nil:
			keysOf(value.Message(), found)
		}
		return true
	})
}

// seat is a learner at their desk.
type seat struct {
	*Desk
	*clientv3.Client // of their own keys
	common           *clientv3.Client
	address          string
	told             chan string
}

func sit(t *testing.T, c *Class, name string) seat {
	t.Helper()
	return sitAt(t, c, "127.0.0.1", name)
}

// sitAt is sit for a class that is reached at a host.
func sitAt(t *testing.T, c *Class, host, name string) seat {
	t.Helper()
	port := freePort(t)
	told := make(chan string, 100)
	d, err := OpenDesk(etcdtest.Soon(t), DeskConfig{Code: c.Code(host), Name: name, Port: port,
		KeyFile: filepath.Join(t.TempDir(), "key"), Tell: func(s string) { told <- s }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	address := fmt.Sprint("127.0.0.1:", port)
	return seat{d, dial(t, address), dial(t, fmt.Sprint("127.0.0.1:", port-2)), address, told}
}

func dial(t *testing.T, address string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// freePort returns a port that is free, as is the one two below it.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := listener.Addr().(*net.TCPAddr).Port
		listener.Close()
		both, err := listen(port)
		if err == nil {
			both.close()
			return port
		}
	}
	t.Fatal("no free ports")
	return 0
}

// TestDeskLikeNamespace does the same at a desk and through client/v3/namespace, and
// compares the answers: keys, values, versions, errors.
func TestDeskLikeNamespace(t *testing.T) {
	t.Parallel()
	c, _ := open(t, 1)
	ann := sit(t, c, "ann")
	root := c.client
	other := namespace.NewKV(root.KV, "other/")
	random := rand.New(rand.NewPCG(1, 2))
	key := func() string { return []string{"a", "a/", "a/b", "a/c", "b", "\xff", "z\x00"}[random.IntN(7)] }
	options := func() (opts []clientv3.OpOption) {
		all := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithFromKey(), clientv3.WithRange(key()),
			clientv3.WithRange("\x00"), clientv3.WithPrevKV()}
		if random.IntN(2) == 0 {
			opts = append(opts, all[random.IntN(len(all))])
		}
		return opts
	}
	var op func(depth int) clientv3.Op
	op = func(depth int) clientv3.Op {
		switch n := random.IntN(8); {
		case n < 3:
			return clientv3.OpPut(key(), fmt.Sprint(random.IntN(100)), clientv3.WithPrevKV())
		case n < 5:
			return clientv3.OpGet(key(), options()...)
		case n < 6:
			return clientv3.OpDelete(key(), options()...)
		case depth == 2:
			return clientv3.OpGet(key(), clientv3.WithLimit(1), clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend))
		default:
			compare := clientv3.Compare(clientv3.Version(key()), ">", 0)
			if random.IntN(2) == 0 {
				compare = compare.WithPrefix()
			}
			return clientv3.OpTxn([]clientv3.Cmp{compare}, []clientv3.Op{op(depth + 1)}, []clientv3.Op{op(depth + 1), op(depth + 1)})
		}
	}
	failed := 0
	for i := range 1500 {
		op := op(0)
		at, errAt := ann.Client.Do(etcdtest.Soon(t), op)
		through, errThrough := other.Do(etcdtest.Soon(t), op)
		if fmt.Sprint(errAt) != fmt.Sprint(errThrough) {
			t.Fatalf("operation %d: at the desk %v, through namespace %v", i, errAt, errThrough)
		}
		if errAt != nil {
			failed++
			continue
		}
		if at, through := seen(at), seen(through); at != through {
			t.Fatalf("operation %d\nat the desk       %s\nthrough namespace %s", i, at, through)
		}
	}
	if failed == 0 || failed > 1000 {
		t.Errorf("%d of the operations were refused", failed)
	}
}

// seen is what two stores that are otherwise the same must agree on.
func seen(r clientv3.OpResponse) string {
	var text strings.Builder
	kv := func(m protoreflect.Message) {
		fields := m.Descriptor().Fields()
		for _, name := range []protoreflect.Name{"key", "value", "version"} {
			fmt.Fprintf(&text, " %q", m.Get(fields.ByName(name)).String())
		}
	}
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		text.WriteString(string(m.Descriptor().Name()))
		if m.Descriptor().Name() == "KeyValue" {
			kv(m)
			return
		}
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			value := m.Get(field)
			switch {
			case field.Name() == "header" || !m.Has(field):
			case field.Message() != nil && field.IsList():
				for i := range value.List().Len() {
					walk(value.List().Get(i).Message())
				}
			case field.Message() != nil:
				walk(value.Message())
			default:
				fmt.Fprintf(&text, " %s=%v", field.Name(), value)
			}
		}
	}
	switch {
	case r.Put() != nil:
		walk((*pb.PutResponse)(r.Put()).ProtoReflect())
	case r.Get() != nil:
		walk((*pb.RangeResponse)(r.Get()).ProtoReflect())
	case r.Del() != nil:
		walk((*pb.DeleteRangeResponse)(r.Del()).ProtoReflect())
	case r.Txn() != nil:
		walk((*pb.TxnResponse)(r.Txn()).ProtoReflect())
	}
	return text.String()
}

// TestDesk goes through what a desk does besides handing on calls.
func TestDesk(t *testing.T) {
	t.Parallel()
	c, etcd := open(t, 1)
	ann, bob := sit(t, c, "ann"), sit(t, c, "bob")
	ctx := etcdtest.Soon(t)

	// A watch sees one's own keys, from the first to the last.
	watching, stop := context.WithCancel(ctx)
	defer stop()
	changes := ann.Client.Watch(watching, "", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	<-changes
	for _, client := range []*clientv3.Client{bob.Client, ann.common, ann.Client} {
		if _, err := client.Put(ctx, "a", ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-changes; len(got.Events) != 1 || string(got.Events[0].Kv.Key) != "a" {
		t.Errorf("ann's watch hears %v", got.Events)
	}
	// The keys of the class are the same for both.
	if got, err := bob.common.Get(ctx, "a"); err != nil || got.Count != 1 || string(got.Kvs[0].Key) != "a" {
		t.Errorf("the key of the class: %v (%v)", got, err)
	}

	// Where etcd refuses an empty key, a desk does.
	if _, err := ann.Client.Do(ctx, clientv3.OpPut("", "")); !errors.Is(err, rpctypes.ErrEmptyKey) {
		t.Errorf("an empty key: %v", err)
	}

	// Leases are listed: one's own, and those of keys that one sees.
	mine, err := ann.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := bob.Grant(ctx, 60)
	if err == nil {
		_, err = bob.common.Put(ctx, "held", "", clientv3.WithLease(theirs.ID))
	}
	if err != nil {
		t.Fatal(err)
	}
	lists := func(client *clientv3.Client, want ...clientv3.LeaseID) {
		t.Helper()
		got, err := client.Leases(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var ids []clientv3.LeaseID
		for _, lease := range got.Leases {
			ids = append(ids, lease.ID)
		}
		slices.Sort(want)
		if !slices.Equal(ids, want) {
			t.Errorf("the leases are %x, want %x", ids, want)
		}
	}
	lists(ann.Client, mine.ID)
	lists(ann.common, mine.ID, theirs.ID)
	lists(bob.Client, theirs.ID)
	if _, err := ann.Revoke(ctx, mine.ID); err != nil {
		t.Fatal(err)
	}
	lists(ann.Client)
	if got, err := bob.common.TimeToLive(ctx, theirs.ID, clientv3.WithAttachedKeys()); err != nil || string(got.Keys[0]) != "held" {
		t.Errorf("the keys of a lease: %v (%v)", got, err)
	}

	// A client that takes the members' addresses stays at its desk.
	if err := ann.Sync(ctx); err != nil || !slices.Equal(ann.Endpoints(), []string{"http://" + ann.address}) {
		t.Errorf("after Sync, ann's endpoints are %v (%v)", ann.Endpoints(), err)
	}

	// Who is there, the class knows, and what they passed.
	ann.Passed([]string{"01-connect", "06-mirror"})
	for {
		all, err := c.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 2 && all[0].Here && len(all[0].Passed) == 2 && all[1].Here && all[0].Keys == 1 {
			break
		}
	}
	bob.Desk.Close()
	if all, err := c.List(ctx); err != nil || all[1].Here || all[1].Name != "bob" {
		t.Errorf("bob has left: %v (%v)", all, err)
	}

	// Only the teacher may compact, at a desk, too.
	if _, err := ann.Compact(ctx, 2); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("ann compacts: %v", err)
	}
	port := freePort(t)
	teacher, err := c.Desk(ctx, port)
	if err != nil {
		t.Fatal(err)
	}
	defer teacher.Close()
	front := dial(t, fmt.Sprint("127.0.0.1:", port))
	if _, err := front.Compact(ctx, 2); err != nil {
		t.Errorf("the teacher compacts: %v", err)
	}

	// Etcd goes and comes back: ann is told, and so are her programs.
	if err := etcd.Members[0].Kill(); err != nil {
		t.Fatal(err)
	}
	hears(t, ann, "The class's etcd at 127.0.0.1 does not answer.")
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := pb.NewKVClient(ann.ActiveConnection()).Range(short, &pb.RangeRequest{Key: []byte("a")}); err == nil ||
		!strings.Contains(err.Error(), "the class's etcd at 127.0.0.1 does not answer") {
		t.Errorf("get: %v", err)
	}
	if err := etcd.Members[0].Start(ctx); err != nil {
		t.Fatal(err)
	}
	hears(t, ann, "The class's etcd is back.")
	if _, err := ann.Put(ctx, "a", "again"); err != nil {
		t.Errorf("put: %v", err)
	}

	// Who is removed is told, and their desk ends.
	if err := c.Remove(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ann.Done():
	case <-ctx.Done():
		t.Fatal("the desk of ann goes on")
	}
	if err := ann.Err(); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("ann is told: %v", err)
	}
}

// TestDeskMoves has a class at another address.
func TestDeskMoves(t *testing.T) {
	t.Parallel()
	c, _ := open(t, 1)
	ann := sit(t, c, "ann")
	ctx := etcdtest.Soon(t)
	if err := ann.Move(ctx, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "no class answers at 127.0.0.1:1") {
		t.Errorf("to where nobody is: %v", err)
	}
	if err := ann.Move(ctx, falseClass(t, "127.0.0.1:0", strangers(t))); !errors.Is(err, errStranger) {
		t.Errorf("to a false class: %v", err)
	}
	if _, err := ann.Put(ctx, "a", ""); err != nil {
		t.Errorf("it has left where it was: %v", err)
	}
	_, port, err := net.SplitHostPort(c.address)
	if err != nil {
		t.Fatal(err)
	}
	if err := ann.Move(ctx, "localhost:"+port); err != nil {
		t.Fatal(err)
	}
	if _, err := ann.Put(ctx, "a", ""); err != nil {
		t.Errorf("put, then: %v", err)
	}
	if ann.host() != "localhost" {
		t.Errorf("it is at %s", ann.host())
	}
}

// TestDeskIsLeft has another class begin where the desk's was, and its etcd gone.
func TestDeskIsLeft(t *testing.T) {
	etcdtest.NeedsLong(t, "a desk asks only now and then who answers")
	t.Parallel()
	c, etcd := open(t, 1)
	ann := sit(t, c, "ann")
	if err := c.server.Close(); err != nil {
		t.Fatal(err)
	}
	falseClass(t, c.address, strangers(t))
	if err := etcd.Members[0].Kill(); err != nil {
		t.Fatal(err)
	}
	hears(t, ann, "Another class answers at "+c.address+" now.")
}

// hears waits until a desk has told its learner something.
func hears(t *testing.T, s seat, words string) {
	t.Helper()
	for {
		select {
		case told := <-s.told:
			if strings.Contains(told, words) {
				return
			}
		case <-time.After(etcdtest.Limit):
			t.Fatalf("the desk does not tell %q", words)
		}
	}
}

// TestDeskAsksNoProxy joins a class at an address for which a proxy is asked, if any: it
// is this machine, under a name that is not a loopback's.
func TestDeskAsksNoProxy(t *testing.T) {
	t.Parallel()
	c, _ := open(t, 1)
	ann := sitAt(t, c, "0.0.0.0", "ann")
	if _, err := ann.Client.Put(etcdtest.Soon(t), "/a", ""); err != nil {
		t.Error(err)
	}
}
