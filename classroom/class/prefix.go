package class

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"example.com/etcd-by-example/classroom/rpc"
)

// prefix is before all keys of those who speak to a desk, and they do not see it. Etcd's
// own client/v3/namespace does the same for calls of a client; this does it for messages,
// so that a desk need not understand what it hands on.
type prefix string

// put puts the prefix before all keys that a request names.
func (p prefix) put(request proto.Message) {
	switch r := request.(type) {
	case *pb.RangeRequest:
		r.Key, r.RangeEnd = p.keys(r.Key, r.RangeEnd)
	case *pb.PutRequest:
		r.Key, _ = p.keys(r.Key, nil)
	case *pb.DeleteRangeRequest:
		r.Key, r.RangeEnd = p.keys(r.Key, r.RangeEnd)
	case *pb.WatchRequest:
		if create := r.GetCreateRequest(); create != nil {
			if len(create.Key) == 0 {
				create.Key = []byte{0} // So etcd has it.
			}
			create.Key, create.RangeEnd = p.keys(create.Key, create.RangeEnd)
		}
	case *pb.TxnRequest:
		for _, c := range r.Compare {
			c.Key, c.RangeEnd = p.keys(c.Key, c.RangeEnd)
		}
		for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
			for _, op := range ops {
				p.put(rpc.Operation(op))
			}
		}
	}
}

// keys returns a range of keys with the prefix. A key that is empty stays so: etcd
// refuses it.
func (p prefix) keys(key, end []byte) (first, last []byte) {
	if len(key) > 0 {
		key = append([]byte(p), key...)
	}
	switch {
	case len(end) == 0:
		return key, end
	case bytes.Equal(end, []byte{0}): // All keys from there on.
		return key, []byte(clientv3.GetPrefixRangeEnd(string(p)))
	default:
		return key, append([]byte(p), end...)
	}
}

// strip takes the prefix off all keys of an answer.
func (p prefix) strip(answer proto.Message) {
	switch r := answer.(type) {
	case *pb.RangeResponse:
		p.stripAll(r.GetKvs()...)
	case *pb.RangeStreamResponse:
		p.strip(r.GetRangeResponse())
	case *pb.PutResponse:
		p.stripAll(r.GetPrevKv())
	case *pb.DeleteRangeResponse:
		p.stripAll(r.GetPrevKvs()...)
	case *pb.WatchResponse:
		for _, event := range r.GetEvents() {
			p.stripAll(event.Kv, event.PrevKv)
		}
	case *pb.TxnResponse:
		for _, op := range r.GetResponses() {
			// One of these is set. The others have no keys.
			p.strip(op.GetResponseRange())
			p.strip(op.GetResponsePut())
			p.strip(op.GetResponseDeleteRange())
			p.strip(op.GetResponseTxn())
		}
	case *pb.LeaseTimeToLiveResponse:
		for i, key := range r.Keys {
			r.Keys[i] = bytes.TrimPrefix(key, []byte(p))
		}
	}
}

func (p prefix) stripAll(kvs ...*mvccpb.KeyValue) {
	for _, kv := range kvs {
		if kv != nil {
			kv.Key = bytes.TrimPrefix(kv.Key, []byte(p))
		}
	}
}
