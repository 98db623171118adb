package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/ports"
)

func TestMain(m *testing.M) { etcdtest.Main(m, nil) }

// place is an etcd with a relay before its first member, and a client each way.
type place struct {
	etcd    *cluster.Cluster
	relay   *Relay
	direct  *clientv3.Client
	through *clientv3.Client
}

func start(t testing.TB, members int) *place {
	t.Helper()
	// Several members miss their leader sooner than they do by default.
	timing := []string{"--heartbeat-interval=50", "--election-timeout=500"}
	etcd := etcdtest.Etcd(t, cluster.Config{Members: members, Args: timing[:len(timing)*min(members-1, 1)]})
	r, err := Start(etcd.Members[0].Endpoint, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if err := r.Ready(etcdtest.Soon(t)); err != nil {
		t.Fatal(err)
	}
	return &place{etcd, r, etcdtest.Connect(t, etcd.Members[0].Endpoint), etcdtest.Connect(t, r.Address)}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// wait returns what comes on the channel, soon.
func wait[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(etcdtest.Limit):
		t.Fatalf("no sign of %s", what)
		panic("not reached")
	}
}

// value returns what etcd has under a key, or "".
func (p *place) value(t testing.TB, key string) string {
	t.Helper()
	get, err := p.direct.Get(etcdtest.Soon(t), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(get.Kvs) == 0 {
		return ""
	}
	return string(get.Kvs[0].Value)
}

// put puts a key through the relay, and sends how that ended.
func (p *place) put(ctx context.Context, key, value string) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := p.through.Put(ctx, key, value)
		ended <- err
	}()
	return ended
}

// puts returns a hook that asks strike about puts, once: on the way there, or back.
func puts(answered bool, strike func(*Message) Verdict) Hook {
	var struck atomic.Bool
	return func(m *Message) Verdict {
		if m.Method == pb.KV_Put_FullMethodName && m.Answered == answered && struck.CompareAndSwap(false, true) {
			return strike(m)
		}
		return Pass
	}
}

// same does something through the relay and without it, and compares what it says.
func (p *place) same(t *testing.T, what string, do func(*clientv3.Client) string) {
	t.Helper()
	if got, want := do(p.through), do(p.direct); got != want {
		t.Errorf("%s: through the relay %q, without it %q", what, got, want)
	}
}

func TestCallsPass(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	ctx := etcdtest.Soon(t)
	p.same(t, "put and get", func(c *clientv3.Client) string {
		must(c.Put(ctx, "/a", "1"))
		get := must(c.Get(ctx, "/", clientv3.WithPrefix()))
		return get.Kvs[0].String()[:20]
	})
	p.same(t, "txn", func(c *clientv3.Client) string {
		txn := must(c.Txn(ctx).If(clientv3.Compare(clientv3.Value("/a"), "=", "1")).Then(clientv3.OpGet("/a")).Commit())
		return fmt.Sprint(txn.Succeeded, string(txn.Responses[0].GetResponseRange().Kvs[0].Value))
	})
	p.same(t, "lease", func(c *clientv3.Client) string {
		grant := must(c.Grant(ctx, 60))
		once := must(c.KeepAliveOnce(ctx, grant.ID))
		must(c.Revoke(ctx, grant.ID))
		_, err := c.KeepAliveOnce(ctx, grant.ID)
		return fmt.Sprint(grant.TTL, once.TTL, err, errors.Is(err, rpctypes.ErrLeaseNotFound))
	})
	p.same(t, "watch", func(c *clientv3.Client) string {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		watch := c.Watch(ctx, "/w", clientv3.WithCreatedNotify())
		created := <-watch
		must(c.Put(ctx, "/w", "x"))
		return fmt.Sprint(created.Created, (<-watch).Events[0].Kv.Value)
	})
	p.same(t, "members and status", func(c *clientv3.Client) string {
		status := must(c.Status(ctx, c.Endpoints()[0]))
		return fmt.Sprint(must(c.MemberList(ctx)).Members, status.Version, status.Leader)
	})
	p.same(t, "snapshot", func(c *clientv3.Client) string {
		size, err := io.Copy(io.Discard, must(c.Snapshot(ctx)))
		return fmt.Sprint(size > 10_000, err)
	})
	must(p.direct.Compact(ctx, must(p.direct.Get(ctx, "/a")).Header.Revision))
	for what, op := range map[string]clientv3.Op{
		"compacted":  clientv3.OpGet("/a", clientv3.WithRev(2)),
		"no lease":   clientv3.OpPut("/a", "", clientv3.WithLease(7)),
		"many":       clientv3.OpTxn(nil, make([]clientv3.Op, 0), nil),
		"no key":     clientv3.OpPut("", ""),
		"too large":  clientv3.OpPut("/a", strings.Repeat("x", 1_600_000)),
		"far larger": clientv3.OpPut("/a", strings.Repeat("x", 3_000_000)),
		"large":      clientv3.OpPut("/big", strings.Repeat("x", 1_500_000)),
	} {
		p.same(t, what, func(c *clientv3.Client) string {
			_, err := c.Do(ctx, op)
			return fmt.Sprintf("%T %v", err, err)
		})
	}
}

// Users are known by their tokens; a token that has become invalid is got again.
func TestUsersPass(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	ctx := etcdtest.Soon(t)
	for _, user := range []string{"root", "ann"} {
		must(p.direct.UserAdd(ctx, user, "secret"))
	}
	must(p.direct.UserGrantRole(ctx, "root", "root"))
	must(p.through.AuthEnable(ctx))
	client := func(user, password string) (*clientv3.Client, error) {
		return clientv3.New(clientv3.Config{Endpoints: []string{p.relay.Address}, Username: user, Password: password,
			Logger: zap.NewNop(), DialTimeout: etcdtest.Limit})
	}
	root := must(client("root", "secret"))
	defer root.Close()
	must(root.Put(ctx, "/a", "1"))
	must(root.AuthDisable(ctx))
	must(root.AuthEnable(ctx)) // The token is of an older revision now.
	must(root.Put(ctx, "/a", "2"))
	ann := must(client("ann", "secret"))
	defer ann.Close()
	if _, err := ann.Put(ctx, "/a", "3"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("ann's put: %v", err)
	}
	if _, err := client("ann", "wrong"); !errors.Is(err, rpctypes.ErrAuthFailed) {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestRequireLeaderPasses(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	p := start(t, 3)
	ctx := etcdtest.Soon(t)
	watch := p.through.Watch(clientv3.WithRequireLeader(ctx), "/a", clientv3.WithCreatedNotify())
	wait(t, "the watch", watch)
	for _, m := range p.etcd.Members[1:] {
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if answer := wait(t, "the watch's end", watch); !errors.Is(answer.Err(), rpctypes.ErrNoLeader) {
		t.Errorf("the watch: %v", answer.Err())
	}
	if _, err := p.through.Get(clientv3.WithRequireLeader(ctx), "/a"); !errors.Is(err, rpctypes.ErrNoLeader) {
		t.Errorf("get: %v", err)
	}
}

// What etcd does not send today passes as well: here a server of our own answers.
func TestHeadersPass(t *testing.T) {
	var heard metadata.MD
	details := must(status.New(codes.DataLoss, "gone").WithDetails(&pb.ResponseHeader{Revision: 7}))
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		heard, _ = metadata.FromIncomingContext(s.Context())
		s.SetHeader(metadata.Pairs("header", "h"))
		s.SetTrailer(metadata.Pairs("trailer-bin", "\x00\xff"))
		var message []byte
		if err := s.RecvMsg(&message); err != nil {
			return err
		}
		s.SendMsg(&message)
		return details.Err()
	}))
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	go server.Serve(listener)
	defer server.Stop()
	r := must(Start(listener.Addr().String(), 0))
	defer r.Close()
	if err := r.Ready(etcdtest.Soon(t)); err != nil {
		t.Fatal(err)
	}
	conn := must(grpc.NewClient(r.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}))))
	defer conn.Close()

	ctx := metadata.AppendToOutgoingContext(etcdtest.Soon(t), "token", "a", "token", "b", "some-bin", "\x00\x01")
	stream := must(conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/un.Known/Method"))
	message := []byte("not of any kind")
	if err := stream.SendMsg(&message); err != nil {
		t.Fatal(err)
	}
	var answer []byte
	if err := stream.RecvMsg(&answer); err != nil || string(answer) != string(message) {
		t.Errorf("answer %q, %v", answer, err)
	}
	err := stream.RecvMsg(&answer)
	if got := status.Convert(err); got.Code() != codes.DataLoss || got.Message() != "gone" || len(got.Details()) != 1 {
		t.Errorf("status %v, details %v", got, got.Details())
	}
	if header := must(stream.Header()); !slices.Equal(header["header"], []string{"h"}) {
		t.Errorf("header %v", header)
	}
	if trailer := stream.Trailer(); !slices.Equal(trailer["trailer-bin"], []string{"\x00\xff"}) {
		t.Errorf("trailer %v", trailer)
	}
	if !slices.Equal(heard["token"], []string{"a", "b"}) || !slices.Equal(heard["some-bin"], []string{"\x00\x01"}) {
		t.Errorf("the server heard %v", heard)
	}
}

func TestLoseCall(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	p.relay.Hook(puts(false, func(*Message) Verdict { return Lose }))
	if _, err := p.through.Put(etcdtest.Soon(t), "/a", "1"); status.Code(err) != codes.Unavailable {
		t.Errorf("a lost put: %v", err)
	}
	if value := p.value(t, "/a"); value != "" {
		t.Errorf("etcd has %q", value)
	}
	must(p.through.Put(etcdtest.Soon(t), "/a", "2")) // It has a new connection.
	if now, ever := p.relay.Connections(); now != 1 || ever != 2 {
		t.Errorf("%d connections now and %d ever", now, ever)
	}
}

func TestLoseAnswer(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	p.relay.Hook(puts(true, func(*Message) Verdict { return Lose }))
	if _, err := p.through.Put(etcdtest.Soon(t), "/a", "1"); status.Code(err) != codes.Unavailable {
		t.Errorf("a put whose answer is lost: %v", err)
	}
	if value := p.value(t, "/a"); value != "1" {
		t.Errorf("etcd has %q", value)
	}
}

// etcd's client repeats a read that was lost: the program does not notice.
func TestReadIsRepeated(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	for _, answered := range []bool{false, true} {
		var asked atomic.Int32
		p.relay.Hook(func(m *Message) Verdict {
			if m.Answered == answered && asked.Add(1) == 1 {
				return Lose
			}
			return Pass
		})
		must(p.through.Get(etcdtest.Soon(t), "/a"))
		if n := asked.Load(); n != 2 {
			t.Errorf("the hook was asked %d times", n)
		}
	}
}

// A lost call takes the streams of its connection with it, and nobody else's.
func TestLoseBreaksOneConnection(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	other := etcdtest.Connect(t, p.relay.Address)
	ours, theirs := streams(t, p, p.through), streams(t, p, other)
	p.relay.Hook(puts(false, func(*Message) Verdict { return Lose }))
	p.through.Put(etcdtest.Soon(t), "/lost", "1")
	etcdtest.Eventually(t, "our streams begin anew", func() bool { return p.relay.Calls()[pb.Watch_Watch_FullMethodName] == 3 })
	must(p.through.Put(etcdtest.Soon(t), "/w", "x"))
	wait(t, "our event", ours)
	wait(t, "their event", theirs)
	if _, ever := p.relay.Connections(); ever != 3 {
		t.Errorf("%d connections", ever)
	}
}

// streams watches /w, and returns the events.
func streams(t *testing.T, p *place, client *clientv3.Client) clientv3.WatchChan {
	t.Helper()
	watch := client.Watch(t.Context(), "/w", clientv3.WithCreatedNotify())
	wait(t, "the watch", watch)
	return watch
}

func TestDrop(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	for _, answered := range []bool{false, true} {
		dropped := make(chan bool, 1)
		p.relay.Hook(puts(answered, func(*Message) Verdict {
			dropped <- true
			return Drop
		}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := p.put(ctx, "/a", "1")
		wait(t, "the put", dropped)
		select {
		case err := <-ended:
			t.Errorf("a dropped put ends: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		cancel()
		if err := wait(t, "the end of the put", ended); !errors.Is(err, context.Canceled) {
			t.Errorf("a dropped put: %v", err)
		}
		if got := p.value(t, "/a") == "1"; got != answered {
			t.Errorf("answered %v, put %v", answered, got)
		}
	}
	if _, ever := p.relay.Connections(); ever != 1 {
		t.Errorf("%d connections", ever)
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	for _, gaveUp := range []bool{false, true} {
		for _, verdict := range []Verdict{Pass, Drop} {
			t.Run(fmt.Sprint("gave up ", gaveUp, ", verdict ", verdict), func(t *testing.T) {
				p := start(t, 1)
				held, verdicts := make(chan *Message, 1), make(chan Verdict)
				p.relay.Hook(puts(false, func(m *Message) Verdict {
					held <- m
					return m.Await(verdicts)
				}))
				answers := make(chan struct{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := p.put(ctx, "/a", "held")
				m := wait(t, "the put", held)
				if request := m.Request.(*pb.PutRequest); string(request.Value) != "held" {
					t.Errorf("held is %v", request)
				}
				must(p.through.Put(etcdtest.Soon(t), "/a", "other")) // Others pass, on the same connection.
				if gaveUp {
					cancel()
					if err := wait(t, "the end of the put", ended); !errors.Is(err, context.Canceled) {
						t.Errorf("the put: %v", err)
					}
					wait(t, "its caller's end", m.Caller.Done())
				}
				before := must(p.direct.Get(etcdtest.Soon(t), "/a")).Header.Revision
				p.relay.Hook(func(m *Message) Verdict {
					if m.Answered {
						close(answers)
					}
					return Pass
				})
				verdicts <- verdict
				want := "other"
				if verdict == Pass {
					want = "held"
					wait(t, "the answer", answers)
				}
				select {
				case <-answers:
					if verdict == Drop {
						t.Error("etcd has answered")
					}
				case <-time.After(50 * time.Millisecond):
				}
				if !gaveUp {
					if verdict == Drop {
						cancel()
					}
					if err := wait(t, "the end of the put", ended); (err == nil) != (verdict == Pass) {
						t.Errorf("the put: %v", err)
					}
				}
				get := must(p.direct.Get(etcdtest.Soon(t), "/a"))
				if value := string(get.Kvs[0].Value); value != want || get.Header.Revision-before > 1 {
					t.Errorf("etcd has %q at %d, after %d", value, get.Header.Revision, before)
				}
				if _, ever := p.relay.Connections(); ever != 1 {
					t.Errorf("%d connections", ever)
				}
			})
		}
	}
}

// A call that is held when the program dies is still delivered.
func TestHeldCallOutlivesConnection(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	grant := must(p.direct.Grant(etcdtest.Soon(t), 60))
	held, verdicts := make(chan *Message, 2), make(chan Verdict)
	var answered sync.Map // the calls; the client may send the second one again
	p.relay.Hook(func(m *Message) Verdict {
		if m.Answered {
			if m.Err == nil {
				answered.Store(m.Call, true)
			}
			return Pass
		}
		select {
		case held <- m:
		default: // It is not one of the two.
		}
		return m.Await(verdicts)
	})
	p.put(t.Context(), "/a", "1")
	go p.through.KeepAliveOnce(t.Context(), grant.ID)
	put, keepAlive := wait(t, "a call", held), wait(t, "the other call", held)
	put.Conn.Cut()
	keepAlive.Conn.Cut()
	p.through.Close()
	close(verdicts)
	etcdtest.Eventually(t, "both are answered", func() bool {
		_, first := answered.Load(put.Call)
		_, second := answered.Load(keepAlive.Call)
		return first && second
	})
	if value := p.value(t, "/a"); value != "1" {
		t.Errorf("etcd has %q", value)
	}
}

func TestDoBeforeTheProgramHears(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	var call *Call
	p.relay.Hook(puts(true, func(m *Message) Verdict {
		call = m.Call
		if m.Err != nil || m.Answer.(*pb.PutResponse).Header.Revision != 2 || string(m.Request.(*pb.PutRequest).Key) != "/a" {
			t.Errorf("the answer to %v is %v, %v", m.Request, m.Answer, m.Err)
		}
		must(p.direct.Put(etcdtest.Soon(t), "/a", p.value(t, "/a")+", and then")) // As etcd has it already.
		return Pass
	}))
	put := must(p.through.Put(etcdtest.Soon(t), "/a", "first"))
	if value := p.value(t, "/a"); put.Header.Revision != 2 || value != "first, and then" {
		t.Errorf("put at %d, then %q", put.Header.Revision, value)
	}
	if call.Conn.Number != 1 || call.Method != pb.KV_Put_FullMethodName {
		t.Errorf("the call is %v", call)
	}
}

func TestHookHearsErrors(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	var heard []string
	p.relay.Hook(func(m *Message) Verdict {
		heard = append(heard, fmt.Sprint(m.Answered, m.Request != nil, m.Answer, m.Err))
		return Pass
	})
	_, err := p.through.Put(etcdtest.Soon(t), "/a", "", clientv3.WithLease(7))
	want := []string{"false true <nil> <nil>",
		"true true <nil> rpc error: code = NotFound desc = etcdserver: requested lease not found"}
	if !errors.Is(err, rpctypes.ErrLeaseNotFound) || !slices.Equal(heard, want) {
		t.Errorf("%v; the hook heard %q", err, heard)
	}
}

// Events and renewals of one connection are held, those of another pass.
func TestHoldStream(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	other := etcdtest.Connect(t, p.relay.Address)
	grant := must(p.direct.Grant(etcdtest.Soon(t), 60))
	ours, theirs := streams(t, p, p.through), streams(t, p, other)
	verdicts, held := make(chan Verdict), make(chan *Message, 10)
	p.relay.Hook(func(m *Message) Verdict {
		if m.Conn.Number != 1 || !m.Answered {
			return Pass
		}
		switch m.Answer.(type) {
		case *pb.WatchResponse, *pb.LeaseKeepAliveResponse:
			held <- m
			return m.Await(verdicts)
		}
		return Pass
	})
	must(p.direct.Put(etcdtest.Soon(t), "/w", "1"))
	wait(t, "an event for us", held)
	wait(t, "their event", theirs)
	renewed := make(chan error, 1)
	go func() {
		_, err := p.through.KeepAliveOnce(t.Context(), grant.ID)
		renewed <- err
	}()
	wait(t, "our renewal", held)
	must(other.KeepAliveOnce(etcdtest.Soon(t), grant.ID))
	must(p.through.Get(etcdtest.Soon(t), "/w")) // Other calls of the connection pass.
	select {
	case <-ours:
		t.Error("an event came through")
	case <-renewed:
		t.Error("a renewal came through")
	case <-time.After(50 * time.Millisecond):
	}
	close(verdicts)
	if event := wait(t, "our event", ours); string(event.Events[0].Kv.Value) != "1" {
		t.Errorf("our event is %v", event.Events)
	}
	if err := wait(t, "our renewal", renewed); err != nil {
		t.Errorf("our renewal: %v", err)
	}
}

// TestStreamOfAnswers reads a range in a stream: each message of it, and its error, tells
// what was asked for.
func TestStreamOfAnswers(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	for i := range 15 {
		must(p.direct.Put(etcdtest.Soon(t), fmt.Sprintf("/a/%02d", i), "value"))
	}
	must(p.direct.Compact(etcdtest.Soon(t), 5))
	var mu sync.Mutex
	var sizes []int
	errs := 0
	p.relay.Hook(func(m *Message) Verdict {
		if m.Method != pb.KV_RangeStream_FullMethodName {
			return Pass
		}
		mu.Lock()
		defer mu.Unlock()
		if asked, ok := m.Request.(*pb.RangeRequest); !ok || string(asked.Key) != "/a/" || !m.Reads.Under("/a/") || m.Reads.Under("/b/") {
			t.Errorf("a message, answered: %v, tells of the request %v", m.Answered, m.Request)
		}
		if chunk, ok := m.Answer.(*pb.RangeStreamResponse); ok {
			sizes = append(sizes, len(chunk.RangeResponse.Kvs))
		} else if m.Err != nil {
			errs++
		}
		return Pass
	})
	get := must(clientv3.GetStreamToGetResponse(must(p.through.GetStream(etcdtest.Soon(t), "/a/", clientv3.WithPrefix()))))
	if get.Count != 15 || !slices.Equal(sizes, []int{10, 5}) {
		t.Errorf("%d keys, in messages of %v", get.Count, sizes)
	}
	past := must(p.through.GetStream(etcdtest.Soon(t), "/a/", clientv3.WithPrefix(), clientv3.WithRev(3)))
	if _, err := clientv3.GetStreamToGetResponse(past); !errors.Is(err, rpctypes.ErrCompacted) || errs != 1 {
		t.Errorf("of what was compacted: %v, told %d times", err, errs)
	}
}

// A watch is held on its way to etcd, also as the second one of its stream.
func TestHoldWatchRequest(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	streams(t, p, p.through)
	held, verdicts := make(chan *Message, 1), make(chan Verdict)
	p.relay.Hook(func(m *Message) Verdict {
		if !m.Answered && m.Reads.Under("/x/") {
			held <- m
			return m.Await(verdicts)
		}
		return Pass
	})
	stands := make(chan clientv3.WatchChan, 1) // Watch returns when it stands.
	go func() { stands <- p.through.Watch(t.Context(), "/x/", clientv3.WithPrefix()) }()
	m := wait(t, "the watch", held)
	if _, ok := m.Request.(*pb.WatchRequest); !ok {
		t.Errorf("held is %v", m.Request)
	}
	must(p.direct.Put(etcdtest.Soon(t), "/x/1", "before"))
	verdicts <- Pass
	watch := wait(t, "that it stands", stands)
	must(p.direct.Put(etcdtest.Soon(t), "/x/2", "after"))
	if key := string(wait(t, "an event", watch).Events[0].Kv.Key); key != "/x/2" {
		t.Errorf("the first event is of %s", key)
	}
}

func TestDropEvent(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	watch := streams(t, p, p.through)
	p.relay.Hook(func(m *Message) Verdict {
		if answer, ok := m.Answer.(*pb.WatchResponse); ok && string(answer.Events[0].Kv.Value) == "1" {
			return Drop
		}
		return Pass
	})
	must(p.direct.Put(etcdtest.Soon(t), "/w", "1"))
	must(p.direct.Put(etcdtest.Soon(t), "/w", "2"))
	if event := wait(t, "an event", watch); string(event.Events[0].Kv.Value) != "2" {
		t.Errorf("the event is %v", event.Events)
	}
}

// A stream ends in etcd when its caller is gone.
func TestStreamEndsWithCaller(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	wait(t, "the watch", p.through.Watch(ctx, "/w", clientv3.WithCreatedNotify()))
	must(p.through.KeepAlive(ctx, must(p.direct.Grant(etcdtest.Soon(t), 60)).ID))
	running := func() int {
		stacks := make([]byte, 1<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*call).down(")
	}
	etcdtest.Eventually(t, "two streams", func() bool { return running() == 2 })
	cancel()
	p.through.Close()
	etcdtest.Eventually(t, "no stream", func() bool { return running() == 0 })
}

func TestCut(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	watch := streams(t, p, p.through)
	p.relay.Cut()
	if now, ever := p.relay.Connections(); now > 1 || ever < 1 {
		t.Errorf("%d connections now and %d ever", now, ever)
	}
	etcdtest.Eventually(t, "the client has come back", func() bool {
		now, ever := p.relay.Connections()
		return now == 1 && ever == 2
	})
	must(p.through.Put(etcdtest.Soon(t), "/w", "1"))
	wait(t, "the event", watch)
}

func TestHoldConnections(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	must(p.through.Get(etcdtest.Soon(t), "/a"))
	p.relay.Hold()
	ended := p.put(t.Context(), "/a", "1")
	// A new connection is accepted, and hears nothing.
	conn := must(net.Dial("tcp", p.relay.Address))
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a new connection reads %d bytes, %v", n, err)
	}
	select {
	case err := <-ended:
		t.Errorf("the put ended: %v", err)
	default:
	}
	if value := p.value(t, "/a"); value != "" {
		t.Errorf("etcd has %q", value)
	}
	if err := p.relay.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, "the end of the put", ended); err != nil {
		t.Errorf("the put: %v", err)
	}
	conn.SetReadDeadline(time.Now().Add(etcdtest.Limit))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Errorf("the new connection: %v", err)
	}
}

// An answer stands still too, when the connection is held after the call was read.
func TestHoldOneConnection(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	other := etcdtest.Connect(t, p.relay.Address)
	conns := make(chan *Conn, 1)
	p.relay.Hook(puts(false, func(m *Message) Verdict {
		m.Conn.Hold()
		conns <- m.Conn
		return Pass
	}))
	ended := p.put(t.Context(), "/a", "1")
	conn := wait(t, "the put", conns)
	must(other.Get(etcdtest.Soon(t), "/a"))
	etcdtest.Eventually(t, "etcd has it", func() bool { return p.value(t, "/a") == "1" })
	select {
	case err := <-ended:
		t.Errorf("the put ended: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	conn.Resume()
	if err := wait(t, "the end of the put", ended); err != nil {
		t.Errorf("the put: %v", err)
	}
}

func refused(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	// Windows has a number of its own for it.
	return err != nil && (errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "refused"))
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	must(p.through.Get(etcdtest.Soon(t), "/a"))
	p.relay.Refuse()
	if !refused(p.relay.Address) {
		t.Error("a connection is accepted")
	}
	must(p.through.Get(etcdtest.Soon(t), "/a")) // Those that are open stay.
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.relay.Ready(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ready: %v", err)
	}
	if err := p.relay.Resume(); err != nil {
		t.Fatal(err)
	}
	if refused(p.relay.Address) {
		t.Error("a connection is refused")
	}
	must(etcdtest.Connect(t, p.relay.Address).Get(etcdtest.Soon(t), "/a"))
}

// A connection that is accepted while the door closes is cut.
func TestLateConnection(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	other := must(net.Listen("tcp", "127.0.0.1:0"))
	defer other.Close()
	conn := must(net.Dial("tcp", other.Addr().String()))
	defer conn.Close()
	must(entrance{other, p.relay}.Accept())
	conn.SetReadDeadline(time.Now().Add(etcdtest.Limit))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
}

func TestMemberDies(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	watch := streams(t, p, p.through)
	for range 2 {
		if err := p.etcd.Members[0].Kill(); err != nil {
			t.Fatal(err)
		}
		etcdtest.Eventually(t, "connections are refused", func() bool { return refused(p.relay.Address) })
		if now, _ := p.relay.Connections(); now != 0 {
			t.Errorf("%d connections", now)
		}
		if err := p.etcd.Members[0].Start(etcdtest.Soon(t)); err != nil {
			t.Fatal(err)
		}
		if err := p.relay.Ready(etcdtest.Soon(t)); err != nil {
			t.Fatal(err)
		}
		must(p.through.Put(etcdtest.Soon(t), "/w", "1"))
		wait(t, "the event", watch)
	}
}

// A relay may be there before its member, at a port that it was given.
func TestStartBeforeTheMember(t *testing.T) {
	free := must(ports.Reserve(0, 1))
	defer free.Release()
	port, taken := free.Numbers[0], must(net.Listen("tcp", "127.0.0.1:0"))
	defer taken.Close()
	r := must(Start(taken.Addr().String(), port))
	defer r.Close()
	if r.Address != fmt.Sprint("127.0.0.1:", port) {
		t.Errorf("it listens at %s", r.Address)
	}
	// Somebody listens who says nothing: that is no member.
	time.Sleep(50 * time.Millisecond)
	if !refused(r.Address) {
		t.Error("a connection is accepted")
	}
	if _, err := Start(taken.Addr().String(), taken.Addr().(*net.TCPAddr).Port); err == nil {
		t.Error("a port that is taken is no error")
	}
}

// The port of a relay that refuses is taken by somebody, who leaves.
func TestPortComesBack(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	p.relay.Refuse()
	thief := must(net.Listen("tcp", p.relay.Address))
	if err := p.relay.Resume(); err == nil {
		t.Error("a port that is taken is no error")
	}
	p.etcd.Members[0].Kill()
	if err := p.etcd.Members[0].Start(etcdtest.Soon(t)); err != nil {
		t.Fatal(err)
	}
	thief.Close()
	if err := p.relay.Ready(etcdtest.Soon(t)); err != nil {
		t.Fatal(err)
	}
	must(p.through.Get(etcdtest.Soon(t), "/a"))
}

// A client that asks which members there are stays behind the relay.
func TestAdvertise(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	p.relay.Advertise(map[string]string{p.etcd.Members[0].Endpoint: p.relay.Address})
	if err := p.through.Sync(etcdtest.Soon(t)); err != nil {
		t.Fatal(err)
	}
	if got := p.through.Endpoints(); len(got) != 1 || got[0] != "http://"+p.relay.Address {
		t.Errorf("it was told of %q", got)
	}
	must(p.through.Put(etcdtest.Soon(t), "/a", "1"))
	if calls := p.relay.Calls()[pb.KV_Put_FullMethodName]; calls != 1 {
		t.Errorf("the relay has seen %d puts", calls)
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	if now, ever := p.relay.Connections(); now > 1 || ever > 1 {
		t.Errorf("%d connections now and %d ever", now, ever)
	}
	var clients []*clientv3.Client
	for range 3 {
		client := etcdtest.Connect(t, p.relay.Address)
		must(client.Get(etcdtest.Soon(t), "/a"))
		must(client.Put(etcdtest.Soon(t), "/a", ""))
		must(client.Put(etcdtest.Soon(t), "/a", ""))
		clients = append(clients, client)
	}
	must(p.through.Get(etcdtest.Soon(t), "/a"))
	if now, ever := p.relay.Connections(); now != 4 || ever != 4 {
		t.Errorf("%d connections now and %d ever", now, ever)
	}
	for _, client := range clients {
		client.Close()
	}
	etcdtest.Eventually(t, "one connection is left", func() bool {
		now, ever := p.relay.Connections()
		return now == 1 && ever == 4
	})
	want := map[string]int{pb.KV_Range_FullMethodName: 4, pb.KV_Put_FullMethodName: 6}
	if calls := p.relay.Calls(); !reflect.DeepEqual(calls, want) {
		t.Errorf("calls %v", calls)
	}
}

// Whatever a relay is in the middle of, Close ends it.
func TestClose(t *testing.T) {
	p := start(t, 1)
	goroutines := func() string {
		stacks := make([]byte, 4<<20)
		var ours []string
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "relay.(*") || strings.Contains(stack, "relay.Start") ||
				strings.Contains(stack, "grpc.(*Server)") {
				ours = append(ours, stack)
			}
		}
		return strings.Join(ours, "\n\n")
	}
	p.relay.Close()
	for _, name := range []string{"idle", "held call", "held answer", "held stream", "held request", "dropped", "held connections", "refusing"} {
		r := must(Start(p.etcd.Members[0].Endpoint, 0))
		if err := r.Ready(etcdtest.Soon(t)); err != nil {
			t.Fatal(err)
		}
		client := etcdtest.Connect(t, r.Address)
		<-client.Watch(t.Context(), "/w", clientv3.WithCreatedNotify())
		asked := make(chan bool, 10)
		r.Hook(func(m *Message) Verdict {
			asked <- true
			switch {
			case name == "dropped":
				return Drop
			case name == "held answer" && !m.Answered:
				return Pass
			}
			verdict := m.Await(nil)
			time.Sleep(50 * time.Millisecond) // Close waits for that too.
			return verdict
		})
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		if name == "held call" || name == "held connections" || name == "held answer" || name == "dropped" {
			calls.Go(func() { client.Put(ctx, "/a", "") })
		}
		switch name {
		case "held connections":
			r.Hold()
			conn := must(net.Dial("tcp", r.Address)) // It stands before its first byte.
			defer conn.Close()
		case "refusing":
			r.Refuse()
		case "held stream":
			must(p.direct.Put(etcdtest.Soon(t), "/w", ""))
		case "held request":
			calls.Go(func() { client.Watch(ctx, "/x") })
		}
		if name != "idle" && name != "held connections" && name != "refusing" {
			wait(t, name, asked)
		}
		closed := make(chan struct{})
		go func() { r.Close(); close(closed) }()
		wait(t, "the end of Close: "+name, closed)
		if left := goroutines(); left != "" {
			t.Errorf("%s: it leaves\n%s", name, left)
		}
		if r.Resume(); !refused(r.Address) {
			t.Errorf("%s: a connection is accepted", name)
		}
		cancel()
		calls.Wait()
		client.Close()
	}
	p.relay.Close() // Again: nothing happens.
}

func TestTouched(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	requests := make(chan *Message, 1)
	p.relay.Hook(func(m *Message) Verdict {
		if !m.Answered {
			requests <- m
		}
		return Pass
	})
	for _, c := range []struct {
		op            clientv3.Op
		reads, writes Ranges
	}{
		{clientv3.OpGet("a"), Ranges{{"a", ""}}, nil},
		{clientv3.OpGet("a", clientv3.WithPrefix()), Ranges{{"a", "b"}}, nil},
		{clientv3.OpPut("a", "x"), nil, Ranges{{"a", ""}}},
		{clientv3.OpDelete("a", clientv3.WithFromKey()), nil, Ranges{{"a", "\x00"}}},
		{clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.Version("c").WithRange("d"), ">", 0)},
			[]clientv3.Op{clientv3.OpPut("p", ""), clientv3.OpGet("g")},
			[]clientv3.Op{clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value("i"), "=", "")},
				[]clientv3.Op{clientv3.OpPut("q", "")},
				[]clientv3.Op{clientv3.OpDelete("r", clientv3.WithPrefix())})}),
			Ranges{{"c", "d"}, {"g", ""}, {"i", ""}}, Ranges{{"p", ""}, {"q", ""}, {"r", "s"}}},
	} {
		must(p.through.Do(etcdtest.Soon(t), c.op))
		m := <-requests
		if !slices.Equal(m.Reads, c.reads) || !slices.Equal(m.Writes, c.writes) {
			t.Errorf("%v reads %q and writes %q", m.Request, m.Reads, m.Writes)
		}
	}
}

func TestUnder(t *testing.T) {
	for _, c := range []struct {
		r      Range
		prefix string
		want   bool
	}{
		{Range{"/a/1", ""}, "/a/", true},
		{Range{"/a", ""}, "/a/", false},
		{Range{"/a/", "/a0"}, "/a/", true},
		{Range{"/", "0"}, "/a/", true},
		{Range{"/a/5", "/a/6"}, "/a/", true},
		{Range{"/", "/a/"}, "/a/", false}, // Its end is not one of it.
		{Range{"/a0", "/b"}, "/a/", false},
		{Range{"/", "\x00"}, "/a/", true},
		{Range{"/b", "\x00"}, "/a/", false},
		{Range{"\x00", "\x00"}, "/a/", true},
		{Range{"\xff\xff", "\x00"}, "\xff", true},
		{Range{"x", ""}, "", true},
		{Range{"x", "y"}, "", true},
	} {
		if got := (Ranges{{"other", ""}, c.r}).Under(c.prefix); got != c.want && c.prefix != "" {
			t.Errorf("%q under %q: %v", c.r, c.prefix, got)
		}
	}
	if (Ranges{}).Under("") {
		t.Error("no range is under nothing")
	}
}

// Frames that etcd would not send pass as they are, empty ones too.
func TestEmptyMessages(t *testing.T) {
	t.Parallel()
	p := start(t, 1)
	var heard []string
	p.relay.Hook(func(m *Message) Verdict {
		heard = append(heard, fmt.Sprintf("%T %v", m.Request, m.Answered))
		return Pass
	})
	must(p.through.AuthStatus(etcdtest.Soon(t)))
	if want := []string{"*etcdserverpb.AuthStatusRequest false", "*etcdserverpb.AuthStatusRequest true"}; !slices.Equal(heard, want) {
		t.Errorf("the hook heard %q", heard)
	}
}

func BenchmarkGet(b *testing.B) {
	p := start(b, 1)
	must(p.direct.Put(b.Context(), "/a", string(bytes.Repeat([]byte("x"), 100))))
	get := func(client *clientv3.Client) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				must(client.Get(b.Context(), "/a"))
			}
		}
	}
	b.Run("direct", get(p.direct))
	b.Run("relay", get(p.through))
	p.relay.Hook(func(*Message) Verdict { return Pass })
	b.Run("hook", get(p.through))
}

// BenchmarkAfterLoss measures how soon a program's next call is answered after one whose
// connection was cut: gRPC takes a new one at once, and does not wait for a second.
func BenchmarkAfterLoss(b *testing.B) {
	p := start(b, 1)
	for b.Loop() {
		p.relay.Hook(puts(false, func(*Message) Verdict { return Lose }))
		p.through.Put(b.Context(), "/lost", "")
		must(p.through.Put(etcdtest.Soon(b), "/next", ""))
	}
}
