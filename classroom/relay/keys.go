package relay

import (
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"example.com/etcd-by-example/classroom/rpc"
)

// Range is a range of keys as etcd has it: Key alone when End is empty, all from Key on
// when End is "\x00", and else those from Key up to End, which is not one of them.
type Range struct{ Key, End string }

// Ranges are those of a request.
type Ranges []Range

// Under reports whether one of the ranges has room for a key with that prefix.
func (ranges Ranges) Under(prefix string) bool {
	const open = "\x00"
	end := clientv3.GetPrefixRangeEnd(prefix)
	return slices.ContainsFunc(ranges, func(r Range) bool {
		if r.End == "" {
			return strings.HasPrefix(r.Key, prefix)
		}
		return (end == open || r.Key < end) && (r.End == open || prefix < r.End)
	})
}

// touched returns the keys that a request may read and write, in its order.
func touched(request proto.Message) (reads, writes Ranges) {
	switch r := request.(type) {
	case *pb.RangeRequest:
		reads = Ranges{{string(r.Key), string(r.RangeEnd)}}
	case *pb.PutRequest:
		writes = Ranges{{string(r.Key), ""}}
	case *pb.DeleteRangeRequest:
		writes = Ranges{{string(r.Key), string(r.RangeEnd)}}
	case *pb.WatchRequest:
		if create := r.GetCreateRequest(); create != nil {
			reads = Ranges{{string(create.Key), string(create.RangeEnd)}}
		}
	case *pb.TxnRequest:
		for _, c := range r.Compare {
			reads = append(reads, Range{string(c.Key), string(c.RangeEnd)})
		}
		for _, op := range slices.Concat(r.Success, r.Failure) {
			more, mine := touched(rpc.Operation(op))
			reads, writes = append(reads, more...), append(writes, mine...)
		}
	}
	return reads, writes
}
