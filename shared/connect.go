package shared

import (
	"context"
	"errors"
	"os"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"example.com/etcd-by-example/shared/diagnose"
)

// Connect returns a client of the etcd that the environment names (see
// Config), after etcd has answered a linearizable read. Within
// ETCDCTL_DIAL_TIMEOUT it returns an error that says which endpoint failed,
// why, and what to do. One living endpoint among dead ones is enough.
//
// Its keys are those of ETCD_NAMESPACE (see Namespace). The caller closes it.
func Connect(ctx context.Context) (*clientv3.Client, error) {
	config, err := Config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, config.DialTimeout)
	defer cancel()
	if err := Check(ctx, config); err != nil {
		return nil, err
	}
	client, err := clientv3.New(*config)
	if err != nil {
		return nil, diagnose.Explain(config.Endpoints, err)
	}
	// Any etcd tells its status, but only one that has a leader, and that knows
	// the user, answers a read. The key need not exist.
	_, err = client.Get(ctx, "health", clientv3.WithCountOnly())
	if err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) {
		client.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = rpctypes.ErrNoLeader
		}
		return nil, diagnose.Explain(config.Endpoints, err)
	}
	Namespace(client)
	return client, nil
}

// Namespace puts the value of ETCD_NAMESPACE, when it is set, before every key
// that the client reads, writes, watches or attaches to a lease.
func Namespace(client *clientv3.Client) {
	prefix := os.Getenv("ETCD_NAMESPACE")
	if prefix == "" {
		return
	}
	client.KV = namespace.NewKV(client.KV, prefix)
	client.Watcher = namespace.NewWatcher(client.Watcher, prefix)
	client.Lease = namespace.NewLease(client.Lease, prefix)
}

// Check asks every endpoint of config for its status, all at the same time,
// and returns nil as soon as one etcd has answered. Otherwise it returns what
// stands in the way of each, at the latest when ctx or config.DialTimeout
// ends. It needs no user: an etcd that asks for one has answered.
//
// clientv3.New cannot be asked: it connects later, in the background, and a
// call then waits for an endpoint that answers, without ever saying why none
// does.
func Check(ctx context.Context, config *clientv3.Config) error {
	ctx, cancel := context.WithTimeout(ctx, config.DialTimeout)
	defer cancel()
	anonymous := *config
	anonymous.Username, anonymous.Password = "", ""
	client, err := clientv3.New(anonymous)
	if err != nil {
		return diagnose.Explain(config.Endpoints, err)
	}
	defer client.Close()

	answers := make(chan error, len(config.Endpoints))
	for _, endpoint := range config.Endpoints {
		go func() { answers <- status(ctx, client, config, endpoint) }()
	}
	for range config.Endpoints {
		if err = <-answers; err == nil {
			return nil
		}
	}
	return diagnose.Explain(config.Endpoints, err)
}

// status returns nil when an etcd answers at the endpoint, whatever it says.
// It calls gRPC directly, because the client's own Status waits for a
// connection until the deadline and hides why there is none.
func status(ctx context.Context, client *clientv3.Client,
	config *clientv3.Config, endpoint string) error {
	conn, err := client.Dial(endpoint)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	answered := err == nil ||
		errors.As(rpctypes.Error(err), new(rpctypes.EtcdError))
	if answered {
		return nil
	}
	return diagnose.Endpoint(ctx, config, endpoint, err)
}
