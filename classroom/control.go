package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/cluster"
)

// A classroom that runs etcd listens on a Unix socket for what is typed in
// another terminal as "classroom member …". The socket is in a folder that
// only its user can enter, and no browser can reach it.

// memberStatus is what member list tells of one member.
type memberStatus struct {
	Name     string
	Role     string // leader, follower, no leader, paused, stopped or silent
	Endpoint string
	PID      int // 0 when it does not run
}

// actionLimit bounds how long an action may take.
const actionLimit = 15 * time.Second

// socket returns the path of the socket of the classroom on port.
func socket(port int) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for the classroom's socket: %w", err)
	}
	dir := filepath.Join(cache, "etcd-by-example")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for the classroom's socket: %w", err)
	}
	return filepath.Join(dir, fmt.Sprintf("classroom-%d.sock", port)), nil
}

// control answers member commands about etcd until the returned function is
// called, which returns when none is under way any more.
func control(etcd *cluster.Cluster, port int) (stop func(), err error) {
	path, err := socket(port)
	if err != nil {
		return nil, err
	}
	// A classroom that was killed has left its socket. This one has the port.
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for member commands: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /members", func(w http.ResponseWriter, r *http.Request) {
		answer(w, statuses(r.Context(), etcd.Members))
	})
	mux.HandleFunc("POST /members/{name}/{action}", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, etcd.Members)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), actionLimit)
		defer cancel()
		server.Shutdown(ctx)
		serving.Wait()
	}, nil
}

// act does what the request asks for and answers with the member's status.
func act(w http.ResponseWriter, r *http.Request, members []*cluster.Member) {
	name := r.PathValue("name")
	at := slices.IndexFunc(members, func(m *cluster.Member) bool { return m.Name == name })
	do := cluster.Actions[r.PathValue("action")]
	if at < 0 || do == nil {
		http.Error(w, fmt.Sprintf("no member %q: they are etcd1 to etcd%d",
			name, len(members)), http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actionLimit)
	defer cancel()
	if err := do(ctx, members[at]); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	answer(w, statuses(ctx, members[at:at+1]))
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}

// statuses asks all members at the same time.
func statuses(ctx context.Context, members []*cluster.Member) []memberStatus {
	list := make([]memberStatus, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		asking.Go(func() {
			list[i] = memberStatus{m.Name, role(ctx, m), m.Endpoint, m.PID()}
		})
	}
	asking.Wait()
	return list
}

// role returns what a member says that it is, or why it says nothing.
func role(ctx context.Context, m *cluster.Member) string {
	switch {
	case m.PID() == 0:
		return "stopped"
	case m.Paused():
		return "paused"
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{m.Endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return "silent"
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	status, err := client.Status(ctx, m.Endpoint)
	switch {
	case err != nil:
		return "silent"
	case status.Leader == 0:
		return "no leader"
	case status.Leader == status.Header.MemberId:
		return "leader"
	default:
		return "follower"
	}
}

// member runs a member command against the classroom on port and prints a line
// for each member that it is about.
func member(ctx context.Context, port int, args []string) error {
	usage := errors.New("usage: classroom member list, or " +
		"classroom member stop|kill|pause|resume|restart NAME")
	var method, path string
	switch {
	case len(args) == 1 && args[0] == "list":
		method, path = http.MethodGet, "/members"
	case len(args) == 2 && cluster.Actions[args[0]] != nil:
		method, path = http.MethodPost, "/members/"+args[1]+"/"+args[0]
	default:
		return usage
	}
	list, err := ask(ctx, port, method, path)
	if err != nil {
		return fmt.Errorf("member %s: %w", strings.Join(args, " "), err)
	}
	for _, m := range list {
		process := "no process"
		if m.PID != 0 {
			process = fmt.Sprintf("process %d", m.PID)
		}
		fmt.Printf("%s, %s, %s, %s\n", m.Name, m.Role, m.Endpoint, process)
	}
	return nil
}

// ask sends one request to the classroom on port.
func ask(ctx context.Context, port int, method, path string) ([]memberStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, actionLimit+5*time.Second)
	defer cancel()
	name, err := socket(port)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", name)
		},
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://classroom"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no classroom runs on port %d: "+
			"start it with go run ./classroom, or name its port with -port", port)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, 4096))
		if err != nil {
			return nil, err
		}
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	var list []memberStatus
	return list, json.NewDecoder(response.Body).Decode(&list)
}
