package class

import (
	"context"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/etcd-by-example/classroom/rpc"
)

// handle hands on one call, of whatever method of etcd's. Streams are calls with more
// than one message. Etcd's grpcproxy knows each method instead: it has a store of
// answers of its own, and its watches do not hear that a majority is gone.
func (d *Desk) handle(front grpc.ServerStream, prefix prefix, address string) error {
	name, _ := grpc.MethodFromServerStream(front)
	kind := find(name)
	if kind == nil {
		return status.Errorf(codes.Unimplemented, "the desk hands on no calls of %s", name)
	}
	if name == pb.Lease_LeaseLeases_FullMethodName {
		return d.answerList(front, prefix)
	}

	// A call ends with its caller, and with the desk.
	header, _ := metadata.FromIncomingContext(front.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(front.Context(), header))
	defer cancel()
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	back, err := d.client.ActiveConnection().NewStream(ctx, both, name)
	if err != nil {
		return d.explain(err)
	}
	d.running.Go(func() {
		defer back.CloseSend()
		for {
			request := rpc.Message(kind.Input())
			if front.RecvMsg(request) != nil {
				return // That was all, or the caller is gone.
			}
			prefix.put(request)
			back.SendMsg(request) // What is wrong, the answer says.
		}
	})
	for first := true; ; first = false {
		answer := rpc.Message(kind.Output())
		if err := back.RecvMsg(answer); err != nil {
			front.SetTrailer(back.Trailer())
			if err == io.EOF {
				return nil
			}
			return d.explain(err)
		}
		if first {
			header, _ := back.Header() // It came with the answer.
			front.SetHeader(header)
		}
		prefix.strip(answer)
		switch answer := answer.(type) {
		case *pb.LeaseGrantResponse:
			d.leases.add(answer.ID)
		case *pb.MemberListResponse:
			here(answer, address)
		}
		if err := front.SendMsg(answer); err != nil {
			return err
		}
	}
}

// answerList answers a call for the list of leases.
func (d *Desk) answerList(front grpc.ServerStream, prefix prefix) error {
	if err := front.RecvMsg(&pb.LeaseLeasesRequest{}); err != nil {
		return err
	}
	all, err := d.list(front.Context(), prefix)
	if err != nil {
		return d.explain(err)
	}
	return front.SendMsg(all)
}

// explain says of an error that is not etcd's own that etcd was not reached. The desk
// has told why.
func (d *Desk) explain(err error) error {
	if status.Code(err) != codes.Unavailable || rpctypes.Error(err) != err {
		return err
	}
	return status.Errorf(codes.Unavailable, "the class's etcd at %s does not answer", d.host())
}

// find returns what is known of a method of etcd's, or nil. Locks and elections on the
// server's side would name keys in a way that the desk does not know.
func find(method string) protoreflect.MethodDescriptor {
	if !strings.HasPrefix(method, "/etcdserverpb.") {
		return nil
	}
	return rpc.Method(method)
}
