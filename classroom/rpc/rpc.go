// Package rpc tells what is known of etcd's methods and messages, for who hands on calls
// of whatever method.
package rpc

import (
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Method returns what is known of a method, by gRPC's full name of it, or nil.
func Method(name string) protoreflect.MethodDescriptor {
	name = strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	known, _ := found.(protoreflect.MethodDescriptor)
	return known
}

// Message returns an empty message of a kind, or nil when it is not linked in. Those of
// a known Method are.
func Message(kind protoreflect.MessageDescriptor) proto.Message {
	found, err := protoregistry.GlobalTypes.FindMessageByName(kind.FullName())
	if err != nil {
		return nil
	}
	return found.New().Interface()
}

// Operation returns the request that is one of a transaction's operations, or nil.
func Operation(op *pb.RequestOp) proto.Message {
	switch {
	case op.GetRequestRange() != nil:
		return op.GetRequestRange()
	case op.GetRequestPut() != nil:
		return op.GetRequestPut()
	case op.GetRequestDeleteRange() != nil:
		return op.GetRequestDeleteRange()
	case op.GetRequestTxn() != nil:
		return op.GetRequestTxn()
	default:
		return nil
	}
}
