package relay

import (
	"context"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/etcd-by-example/classroom/rpc"
)

// Verdict is what becomes of a message.
type Verdict int

const (
	// Pass hands the message on.
	Pass Verdict = iota

	// Lose breaks the connection of the program, and the message goes no further. A
	// lost request and a lost answer look the same to the program: Unavailable. That
	// is how calls get lost: TCP loses no part of what it carries, so whoever misses
	// one call has lost the connection, and with it all other calls and streams on
	// it. What etcd's client then repeats by itself, it repeats.
	Lose

	// Drop lets the message vanish and no more: the program waits for as long as it
	// likes to. It takes back what was held.
	Drop
)

// Hook is asked about each message of each call, on its way to etcd and on its way
// back, and about the error that comes instead of an answer. Messages of one direction
// of a call are asked about one after the other, all others at the same time.
//
// A message is held for as long as its hook takes: see Message.Await. What a hook does
// with an answer happens after etcd has done it and before the program hears of it.
//
// A request that has come to the hook is independent of its caller: it passes also when
// the caller has given up meanwhile, as a packet on its way would. That is so for calls
// with one answer and for keep-alives; other streams end with their caller.
type Hook func(*Message) Verdict

// Call is what the messages of a call have in common, one and the same *Call.
type Call struct {
	// Method is gRPC's full name of it: pb.KV_Put_FullMethodName.
	Method string

	// Conn is the program's connection.
	Conn *Conn

	// Caller is over when the program has given the call up, or is gone.
	Caller context.Context
}

// Message is a message on its way to etcd, or an answer on its way back.
type Message struct {
	*Call

	// Request is what the program wrote, such as a *pb.PutRequest. An answer has the
	// request that it is to, and so has each of a stream of answers; where requests
	// come in a stream, an answer has none. It is nil when the method is unknown.
	Request proto.Message

	// Answered says that etcd has answered: the message is Answer, or Err.
	Answered bool

	// Answer is what etcd wrote, such as a *pb.PutResponse.
	Answer proto.Message

	// Err is what ends the call instead of an answer: etcd's error, as a gRPC status,
	// or that the member could not be reached.
	Err error

	// Reads and Writes are the keys that Request may read and write, those of both
	// branches of a transaction and of its comparisons too. A watch reads. The keys
	// that go with a revoked lease are not known.
	Reads, Writes Ranges

	closing <-chan struct{}
}

// Await holds the message until a verdict comes, and returns it: Pass sends the message
// on its way, Drop takes it back. A channel that is closed gives Pass. When the relay is
// closed before, the message is dropped.
func (m *Message) Await(verdict <-chan Verdict) Verdict {
	select {
	case v := <-verdict:
		return v
	case <-m.closing:
		return Drop
	}
}

// call is a call that is being handed on.
type call struct {
	Call
	relay  *Relay
	method protoreflect.MethodDescriptor // nil when it is unknown
	once   bool                          // it has one request
	unary  bool                          // and one answer
	first  []byte                        // the first request
	front  grpc.ServerStream
	back   grpc.ClientStream
}

// handle hands on one call, of whatever method. The error is that of etcd.
func (r *Relay) handle(_ any, front grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(front)
	from, _ := peer.FromContext(front.Context())
	r.mu.Lock()
	r.calls[name]++
	r.mu.Unlock()
	c := &call{
		Call:   Call{Method: name, Conn: from.Addr.(origin).conn, Caller: front.Context()},
		relay:  r,
		method: rpc.Method(name),
		front:  front,
	}
	c.once = c.method != nil && !c.method.IsStreamingClient()
	c.unary = c.once && !c.method.IsStreamingServer()
	if err := front.RecvMsg(&c.first); err != nil {
		return err
	}
	if c.ask(c.first, nil, nil) != Pass {
		return c.vanish()
	}

	// What changes something in etcd does not end with its caller, but when all that the
	// caller has sent is done. The rest would go on for ever: a watch has no other end.
	header, _ := metadata.FromIncomingContext(front.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(r.ctx, header))
	defer cancel()
	if !c.unary && name != pb.Lease_LeaseKeepAlive_FullMethodName {
		defer context.AfterFunc(front.Context(), cancel)()
	}
	var err error
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	if c.back, err = r.member.NewStream(ctx, both, name); err != nil {
		return c.end(err)
	}
	c.back.SendMsg(&c.first) // What is wrong, the answer says.
	if c.unary {
		c.back.CloseSend()
	} else {
		r.running.Go(c.up)
	}
	return c.down()
}

// up hands on what the program sends after its first message.
func (c *call) up() {
	defer c.back.CloseSend()
	for {
		var request []byte
		if err := c.front.RecvMsg(&request); err != nil {
			return // Either that was all, or the caller is gone.
		}
		switch c.ask(request, nil, nil) {
		case Pass:
			c.back.SendMsg(&request) // What is wrong, the answer says.
		case Lose:
			return
		}
	}
}

// down hands on what etcd answers, until that ends. It hears etcd out also when the
// caller is gone: a request may be held that is still to be delivered.
func (c *call) down() error {
	for first := true; ; first = false {
		var answer []byte
		if err := c.back.RecvMsg(&answer); err == io.EOF {
			c.front.SetTrailer(c.back.Trailer())
			return nil
		} else if err != nil {
			c.front.SetTrailer(c.back.Trailer())
			return c.end(err)
		}
		switch verdict := c.ask(nil, answer, nil); {
		case verdict == Drop && !c.unary:
			continue
		case verdict != Pass:
			return c.vanish()
		}
		if first {
			header, _ := c.back.Header() // It came with the answer.
			c.front.SetHeader(header)
		}
		if c.Method == pb.Cluster_MemberList_FullMethodName {
			answer = c.relay.rename(answer)
		}
		c.front.SendMsg(&answer)
	}
}

// rename puts the addresses of Advertise into a list of members.
func (r *Relay) rename(answer []byte) []byte {
	r.mu.Lock()
	advertised := r.advertised
	r.mu.Unlock()
	var list pb.MemberListResponse
	if advertised == nil || proto.Unmarshal(answer, &list) != nil {
		return answer
	}
	for _, member := range list.Members {
		for i, address := range member.ClientURLs {
			scheme, host, _ := strings.Cut(address, "://")
			if other, ok := advertised[host]; ok {
				member.ClientURLs[i] = scheme + "://" + other
			}
		}
	}
	renamed, err := proto.Marshal(&list)
	if err != nil {
		return answer
	}
	return renamed
}

// end returns the error that ends the call, if the hook lets it pass.
func (c *call) end(err error) error {
	if c.ask(nil, nil, err) != Pass {
		return c.vanish()
	}
	return err
}

// vanish returns when the caller has given up, or is gone.
func (c *call) vanish() error {
	<-c.Caller.Done()
	return status.FromContextError(c.Caller.Err()).Err()
}

// ask asks the hook about a request, an answer or an error, and breaks the connection
// when it wants that.
func (c *call) ask(request, answer []byte, err error) Verdict {
	hook := c.relay.hook.Load()
	switch {
	case c.relay.ctx.Err() != nil:
		return Drop
	case hook == nil:
		return Pass
	}
	m := &Message{Call: &c.Call, Answered: answer != nil || err != nil, Err: err, closing: c.relay.ctx.Done()}
	if m.Answered && c.once {
		request = c.first
	}
	if c.method != nil && request != nil {
		m.Request = decode(c.method.Input(), request)
		m.Reads, m.Writes = touched(m.Request)
	}
	if c.method != nil && answer != nil {
		m.Answer = decode(c.method.Output(), answer)
	}
	verdict := (*hook)(m)
	if verdict == Lose {
		c.Conn.Cut()
	}
	return verdict
}

// decode returns the message, or nil when it is none of that kind.
func decode(kind protoreflect.MessageDescriptor, data []byte) proto.Message {
	m := rpc.Message(kind)
	if m == nil || proto.Unmarshal(data, m) != nil {
		return nil
	}
	return m
}

// raw has gRPC hand over messages as they are, as *[]byte.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	message := make([]byte, data.Len()) // Never nil: a message may be empty.
	data.CopyTo(message)
	*v.(*[]byte) = message
	return nil
}

func (raw) Name() string { return "proto" }
