package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/board"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/ports"
)

// startLimit bounds how long members may take until they are ready.
const startLimit = 30 * time.Second

// serve runs the members and their board until ctx ends, and says how to use
// them. It returns nil when ctx has ended and everything was cleaned up.
func serve(ctx context.Context, config cluster.Config, where boardPlace) (err error) {
	etcd, end, err := startMembers(ctx, config, config.Port)
	if err != nil {
		return err
	}
	defer end(&err)
	stopControl, err := control(config.Port, "no class shares this etcd: for that, start it with -class", func(mux *http.ServeMux) {
		controlMembers(mux, etcd)
		controlStore(mux, store{Endpoints: etcd.Endpoints()}, func(ctx context.Context) (int64, error) {
			return 1, etcd.Reset(ctx)
		})
	})
	if err != nil {
		return err
	}
	defer stopControl()
	shown, err := openBoard(ctx, where, board.Config{
		Etcd:    lasting(etcd.Client()),
		Cluster: etcd,
		Env:     lessonEnv(etcd.Endpoints()),
	})
	if err != nil {
		return err
	}
	// The lessons that run end first: they clean up in etcd.
	defer shown.end(&err)
	endpoints := strings.Join(etcd.Endpoints(), ",")
	fmt.Printf("etcd %s runs, members: %d\n", version.Version, len(etcd.Members))
	fmt.Println("  clients  ", endpoints)
	if config.Dir == "" {
		fmt.Println("  data     ", etcd.Dir, "(removed at the end)")
	} else {
		fmt.Println("  data     ", etcd.Dir)
	}
	fmt.Println("In another terminal:")
	if endpoints != "127.0.0.1:2379" {
		fmt.Println("  export ETCDCTL_ENDPOINTS=" + endpoints)
	}
	fmt.Println("  go run ./01-connect")
	fmt.Println("  go tool etcdctl member list")
	fmt.Println("Ctrl-C stops it.")

	<-ctx.Done()
	return nil
}

// startMembers starts the members of the classroom on port, when their own ports are
// free. The returned function ends them, and says so when nothing went wrong.
func startMembers(ctx context.Context, config cluster.Config, port int) (*cluster.Cluster, func(*error), error) {
	if err := free(ctx, config.Port, 2*max(config.Members, 1)); err != nil {
		return nil, nil, err
	}
	starting, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	config.Ended = func(m *cluster.Member, how string) {
		fmt.Fprintf(os.Stderr, "classroom: %s has ended by itself, %s; its log is %s; to start it: "+
			"go run ./classroom -port %d member restart %s\n", m.Name, how, m.Log(), port, m.Name)
	}
	etcd, err := cluster.Start(starting, config)
	if err != nil {
		return nil, nil, err
	}
	return etcd, func(err *error) {
		if failed := etcd.Close(); failed != nil {
			*err = errors.Join(*err, fmt.Errorf("stop etcd: %w", failed))
		}
		if *err == nil {
			fmt.Println("etcd has stopped.")
		}
	}, nil
}

// lasting returns the configuration of a client that finds a member that hangs.
func lasting(etcd clientv3.Config) *clientv3.Config {
	etcd.DialTimeout = 2 * time.Second
	etcd.DialKeepAliveTime, etcd.DialKeepAliveTimeout = 2*time.Second, 6*time.Second
	return &etcd
}

// free returns an error when one of so many ports cannot be had, which says what to do.
func free(ctx context.Context, port, count int) error {
	for i := range count {
		what, isEtcd := listening(ctx, port+i)
		switch {
		case isEtcd:
			return fmt.Errorf("%s: use it as it is, stop it, or choose another port with -port", what)
		case what != "":
			return fmt.Errorf("%s: stop it, or choose another port with -port", what)
		}
	}
	return allowed(port, count)
}

// allowed returns an error when the system does not give so many ports, at which nobody
// answers: it may forbid them to this user.
func allowed(port, count int) error {
	if _, err := ports.Reserve(port, count); err != nil {
		return fmt.Errorf("%w: choose another port with -port", err)
	}
	return nil
}

// listening returns what listens on port, in words that end with its address, and
// whether that is an etcd; "" when nothing does.
func listening(ctx context.Context, port int) (what string, isEtcd bool) {
	endpoint := "127.0.0.1:" + strconv.Itoa(port)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return "", false
	}
	connection.Close()
	if running := etcdVersion(ctx, endpoint); running != "" {
		return fmt.Sprintf("an etcd %s already listens on %s", running, endpoint), true
	}
	if desk, err := ask[store](ctx, port, http.MethodGet, "/store"); err == nil && desk.Shared {
		return "your desk in a class listens on " + endpoint, false
	}
	return "a program that does not answer as an etcd listens on " + endpoint, false
}

// etcdVersion returns the version of the etcd at endpoint, or "" when none
// answers there.
func etcdVersion(ctx context.Context, endpoint string) string {
	request, err := http.NewRequestWithContext(
		ctx, http.MethodGet, "http://"+endpoint+"/version", nil)
	if err != nil {
		return ""
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	var versions version.Versions
	if err := json.NewDecoder(answer.Body).Decode(&versions); err != nil {
		return ""
	}
	return versions.Server
}
