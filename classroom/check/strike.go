package check

import (
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"example.com/etcd-by-example/classroom/relay"
)

// strike is what is done at the first call that matches. Each strike of a round has to
// happen, or nothing is known of the program.
type strike struct {
	what    string // the call that it waits for, such as "a write of /visits"
	matches matcher
	act     func(*call)

	mu     sync.Mutex
	call   *call // that has come; or nil
	struck bool  // the scenario has acted
}

// mostStrikes is how many there may be in a round.
const mostStrikes = 100

// matcher reports whether a message is the one to strike at.
type matcher func(*round, *relay.Message) bool

// call is a message that is held until the scenario lets it go.
type call struct {
	*relay.Message
	verdict chan relay.Verdict
}

// strike sets a strike at the first message of the program that matches. It is carried
// out while the scenario waits for something, and the message is held until act, or
// the scenario later on, has said what becomes of it. Where two strikes match, the one
// that was set first gets the message. what names the message for people.
func (p *program) strike(what string, matches matcher, act func(*call)) *strike {
	s := &strike{what: what, matches: matches, act: act}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.strikes = append(p.strikes, s)
	p.round.strikes = append(p.round.strikes, s)
	return s
}

// hook is asked by the relays about each message.
func (p *program) hook(m *relay.Message) relay.Verdict {
	p.mu.Lock()
	if p.seen != nil {
		p.seen(m)
	}
	strikes := p.strikes
	p.mu.Unlock()
	for _, s := range strikes {
		if s.isTaken() || !s.matches(p.round, m) || !s.take(m) {
			continue
		}
		p.round.sprung <- s
		return m.Await(s.call.verdict)
	}
	return relay.Pass
}

func (s *strike) isTaken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.call != nil
}

// take makes m the call of the strike, unless it has one.
func (s *strike) take(m *relay.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.call != nil {
		return false
	}
	s.call = &call{m, make(chan relay.Verdict, 1)}
	return true
}

// pass lets the message go on.
func (c *call) pass() { c.verdict <- relay.Pass }

// lose has the message lost, with the program's connection.
func (c *call) lose() { c.verdict <- relay.Lose }

// drop has the message vanish: the program waits for as long as it likes to.
func (c *call) drop() { c.verdict <- relay.Drop }

// deliver lets a request that was held go on, and returns when etcd has answered it,
// whether or not the program still waits for that.
func (p *program) deliver(c *call) {
	answered := p.strike("the answer to what was held", func(_ *round, m *relay.Message) bool {
		return m.Answered && m.Call == c.Call
	}, (*call).pass)
	c.pass()
	p.round.wait(judgeLimit, func() bool { return answered.struck })
}

// revision is that of the store, as the answer tells it.
func (c *call) revision() int64 {
	return c.Answer.(interface{ GetHeader() *pb.ResponseHeader }).GetHeader().GetRevision()
}

// answer matches the answer to a call of a method.
func answer(method string) matcher {
	return func(_ *round, m *relay.Message) bool { return m.Answered && m.Answer != nil && m.Method == method }
}

// reads matches a read of a key with a prefix, in a transaction or not.
func reads(prefix string) matcher {
	return func(_ *round, m *relay.Message) bool {
		return !m.Answered && m.Method != pb.Watch_Watch_FullMethodName && m.Reads.Under(prefix)
	}
}

// watches matches the request to watch a key with a prefix.
func watches(prefix string) matcher {
	return func(_ *round, m *relay.Message) bool {
		return !m.Answered && m.Method == pb.Watch_Watch_FullMethodName && m.Reads.Under(prefix)
	}
}

// writes matches a request that would change a key with a prefix if it came to etcd
// now. A transaction whose conditions do not hold is not one: a program may try one
// that is sure to be refused.
func writes(prefix string) matcher {
	return func(r *round, m *relay.Message) bool {
		return !m.Answered && m.Writes.Under(prefix) && r.would(m.Request, prefix)
	}
}

// wrote matches the answer to a request that has changed a key with a prefix.
func wrote(prefix string) matcher {
	return func(_ *round, m *relay.Message) bool {
		return m.Answered && m.Answer != nil && m.Writes.Under(prefix) && did(m.Request, m.Answer, prefix)
	}
}

// would reports whether a request would change a key with a prefix now. Whether the
// conditions of a transaction hold, etcd itself says: it is asked with them, and with
// nothing to do.
func (r *round) would(message proto.Message, prefix string) bool {
	ctx, cancel := r.soon()
	defer cancel()
	kv := pb.NewKVClient(r.client.ActiveConnection())
	switch m := message.(type) {
	case *pb.PutRequest:
		return strings.HasPrefix(string(m.Key), prefix)
	case *pb.DeleteRangeRequest:
		if !within(m, prefix) {
			return false
		}
		there, err := kv.Range(ctx, &pb.RangeRequest{Key: m.Key, RangeEnd: m.RangeEnd, CountOnly: true})
		return err == nil && there.Count > 0
	case *pb.TxnRequest:
		holds, err := kv.Txn(ctx, &pb.TxnRequest{Compare: m.Compare})
		if err != nil {
			return false
		}
		for _, op := range branch(m, holds.Succeeded) {
			if r.would(inner(op), prefix) {
				return true
			}
		}
	}
	return false
}

// did reports whether a request that was answered has changed a key with a prefix.
func did(message, answer proto.Message, prefix string) bool {
	switch m := message.(type) {
	case *pb.PutRequest:
		return strings.HasPrefix(string(m.Key), prefix)
	case *pb.DeleteRangeRequest:
		return within(m, prefix) && answer.(*pb.DeleteRangeResponse).Deleted > 0
	case *pb.TxnRequest:
		a := answer.(*pb.TxnResponse)
		for i, op := range branch(m, a.Succeeded) {
			if did(inner(op), inner(a.Responses[i]), prefix) {
				return true
			}
		}
	}
	return false
}

func within(m *pb.DeleteRangeRequest, prefix string) bool {
	return relay.Ranges{{Key: string(m.Key), End: string(m.RangeEnd)}}.Under(prefix)
}

// branch returns the requests of a transaction that are done.
func branch(m *pb.TxnRequest, succeeded bool) []*pb.RequestOp {
	if succeeded {
		return m.Success
	}
	return m.Failure
}

// inner returns the one message that a part of a transaction, or of its answer, has.
func inner(op proto.Message) proto.Message {
	m := op.ProtoReflect()
	oneof := m.Descriptor().Oneofs().Get(0)
	if set := m.WhichOneof(oneof); set != nil {
		return m.Get(set).Message().Interface()
	}
	return nil
}
