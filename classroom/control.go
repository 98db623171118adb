package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
)

// A classroom that runs etcd listens on a Unix socket for what is typed in
// another terminal as "classroom member …" or "classroom reset". The socket is in
// a folder that only its user can enter, and no browser can reach it. Where the system has
// no such sockets, as an old Windows, or takes no path so long, there is a file in its
// place: with a port of 127.0.0.1, and with a secret that every command has to bring.

// memberStatus is what member list tells of one member.
type memberStatus struct {
	Name     string
	Role     string // leader, follower, no leader, cut off, paused, stopped or silent
	Endpoint string
	PID      int // 0 when it does not run
}

// What may take how long: an action on one member, and what is asked for from
// another terminal, which may be an action on seven.
const (
	actionLimit  = 15 * time.Second
	commandLimit = 8 * actionLimit
)

// secretHeader is where a command has the secret.
const secretHeader = "Classroom-Secret"

// socket returns the path of the socket of the classroom on port, or of the file in its place.
func socket(port int) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for the classroom's socket: %w", err)
	}
	dir := filepath.Join(cache, "etcd-by-example")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for the classroom's socket: %w", err)
	}
	return filepath.Join(dir, socketName(port)), nil
}

// socketName names the socket of the classroom on port. A classroom in another container
// with the same home has another network, and may have the same port.
func socketName(port int) string {
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil { // Only Linux has several.
		return fmt.Sprintf("classroom-%d.sock", port)
	}
	host, _ := os.Hostname() // The networks of two machines may have the same number.
	hash := fnv.New32a()
	hash.Write([]byte(host + network))
	return fmt.Sprintf("classroom-%08x-%d.sock", hash.Sum32(), port)
}

// control answers commands, which commands has the mux handle, until the returned
// function is called. That returns when none is under way any more. What it does not
// handle is answered with a sentence.
func control(port int, otherwise string, commands func(*http.ServeMux)) (stop func(), err error) {
	path, err := socket(port)
	if err != nil {
		return nil, err
	}
	// A classroom that was killed has left its socket. This one has the port.
	os.Remove(path)
	secret := ""
	listener, err := net.Listen("unix", path)
	if err != nil {
		listener, secret, err = listenInstead(path)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, otherwise, http.StatusNotFound)
	})
	commands(mux)
	life, end := context.WithCancel(context.Background())
	server := &http.Server{Handler: only(secret, mux), ReadHeaderTimeout: 5 * time.Second,
		BaseContext: func(net.Listener) context.Context { return life }}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	return func() {
		end() // What is under way waits for members that are about to end.
		ctx, cancel := context.WithTimeout(context.Background(), actionLimit)
		defer cancel()
		server.Shutdown(ctx)
		serving.Wait()
		os.Remove(path) // A socket has gone with its listener.
	}, nil
}

// listenInstead listens where there is no socket, and writes down where, and the secret.
func listenInstead(path string) (net.Listener, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	secret := rand.Text()
	if err := os.WriteFile(path, []byte(listener.Addr().String()+" "+secret), 0o600); err != nil {
		return nil, "", errors.Join(err, listener.Close())
	}
	return listener, secret, nil
}

// only hands on the requests that bring the secret.
func only(secret string, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get(secretHeader)), []byte(secret)) == 0 {
			http.Error(w, "the classroom takes commands from its user alone", http.StatusForbidden)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// controlMembers answers commands about members.
func controlMembers(mux *http.ServeMux, etcd *cluster.Cluster) {
	mux.HandleFunc("GET /members", func(w http.ResponseWriter, r *http.Request) {
		answer(w, statuses(r.Context(), etcd.Members))
	})
	mux.HandleFunc("POST /members/{who}/{action}", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, etcd)
	})
}

// store is where a user has keys.
type store struct {
	Endpoints []string
	Shared    bool // with a class: others have keys in it
}

// controlStore answers commands about a store. reset empties it, as far as the user may,
// and returns its revision then.
func controlStore(mux *http.ServeMux, s store, reset func(context.Context) (revision int64, err error)) {
	mux.HandleFunc("GET /store", func(w http.ResponseWriter, r *http.Request) { answer(w, s) })
	mux.HandleFunc("POST /store/reset", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), startLimit)
		defer cancel()
		revision, err := reset(ctx)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		answer(w, revision)
	})
}

// act does what the request asks for and answers with the members' status.
func act(w http.ResponseWriter, r *http.Request, etcd *cluster.Cluster) {
	action := r.PathValue("action")
	do := cluster.Actions[action]
	if do == nil {
		http.Error(w, fmt.Sprintf("no action %q", action), http.StatusNotFound)
		return
	}
	var chosen []*cluster.Member
	err := etcd.Exclusively(r.Context(), func() (err error) {
		if chosen, err = choose(r.Context(), etcd.Members, r.PathValue("who")); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Duration(len(chosen))*actionLimit)
		defer cancel()
		if action == "restart" {
			return etcd.Restart(ctx, chosen)
		}
		for _, m := range chosen {
			if err := do(ctx, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	answer(w, statuses(r.Context(), chosen))
}

// selectors are the words that stand for all members of a role.
var selectors = map[string]string{
	"leader": "leader", "followers": "follower", "stopped": "stopped", "cut": "cut off",
}

// choose returns the members that a user means, in the order of their names.
func choose(ctx context.Context, members []*cluster.Member, who string) ([]*cluster.Member, error) {
	role, several := selectors[who]
	if !several {
		at := slices.IndexFunc(members, func(m *cluster.Member) bool { return m.Name == who })
		if at < 0 {
			return nil, fmt.Errorf("no member %q: they are etcd1 to etcd%d; "+
				"or give leader, followers, stopped or cut", who, len(members))
		}
		return members[at : at+1], nil
	}
	var chosen []*cluster.Member
	var found []string
	for i, status := range statuses(ctx, members) {
		if status.Role == role {
			chosen = append(chosen, members[i])
		}
		found = append(found, fmt.Sprintf("%s (%s)", status.Name, status.Role))
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no member matches %s: they are %s", who, strings.Join(found, ", "))
	}
	return chosen, nil
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
	if state := m.State(); state != "" {
		return state
	}
	client, err := clientv3.New(m.Client())
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

// listMembers prints a line for each member of the classroom on port.
func listMembers(ctx context.Context, port int) error {
	list, err := ask[[]memberStatus](ctx, port, http.MethodGet, "/members")
	if err != nil {
		return fmt.Errorf("member list: %w", err)
	}
	printMembers(list)
	return nil
}

// actOnMembers does something to members of the classroom on port, and prints a line
// for each of them.
func actOnMembers(ctx context.Context, port int, action, who string) error {
	list, err := ask[[]memberStatus](ctx, port, http.MethodPost, "/members/"+url.PathEscape(who)+"/"+action)
	if err != nil {
		return fmt.Errorf("member %s %s: %w", action, who, err)
	}
	printMembers(list)
	return nil
}

func printMembers(list []memberStatus) {
	for _, m := range list {
		process := "no process"
		if m.PID != 0 {
			process = fmt.Sprintf("process %d", m.PID)
		}
		fmt.Printf("%s, %s, %s, %s\n", m.Name, m.Role, m.Endpoint, process)
	}
}

// reset empties the store of the classroom on port, and no other: when the
// environment names another etcd, the user may mean that one.
func reset(ctx context.Context, port int) error {
	own, err := ask[store](ctx, port, http.MethodGet, "/store")
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if namespace := os.Getenv("ETCD_NAMESPACE"); namespace != "" {
		return fmt.Errorf("reset: it empties the whole store, and ETCD_NAMESPACE says that "+
			"yours is %s alone: unset it to do so", namespace)
	}
	if others := notAmong(own.Endpoints, os.Getenv("ETCDCTL_ENDPOINTS")); len(others) > 0 {
		return fmt.Errorf("reset: ETCDCTL_ENDPOINTS names %s, which the classroom on port %d "+
			"did not start: unset ETCDCTL_ENDPOINTS to empty the store at %s, or name "+
			"another classroom with -port", strings.Join(others, ","), port, strings.Join(own.Endpoints, ","))
	}
	revision, err := ask[int64](ctx, port, http.MethodPost, "/store/reset")
	switch {
	case err != nil:
		return fmt.Errorf("reset: %w", err)
	case own.Shared:
		fmt.Printf("Your keys are gone. The store is shared, and at revision %d: "+
			"what the page shows at 2 is at %d or later here.\n", revision, revision+1)
	default:
		fmt.Printf("The store is empty, at revision %d.\n", revision)
	}
	return nil
}

// notAmong returns the endpoints of a list that are none of own. Users write them
// in several ways.
func notAmong(own []string, list string) []string {
	var others []string
	for endpoint := range strings.SplitSeq(list, ",") {
		endpoint = strings.TrimSpace(endpoint)
		if named, err := url.Parse(endpoint); err == nil && named.Host != "" {
			endpoint = named.Host // Without a password, if there is one.
		}
		if port, local := strings.CutPrefix(endpoint, "localhost:"); local {
			endpoint = "127.0.0.1:" + port
		}
		if endpoint != "" && !slices.Contains(own, endpoint) {
			others = append(others, endpoint)
		}
	}
	return others
}

// ask sends one request to the classroom on port, and returns its answer.
func ask[T any](ctx context.Context, port int, method, path string) (told T, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	name, err := socket(port)
	if err != nil {
		return told, err
	}
	network, secret := "unix", ""
	if text, err := os.ReadFile(name); err == nil { // It is no socket.
		network = "tcp"
		name, secret, _ = strings.Cut(string(text), " ")
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, name)
		},
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://classroom"+path, nil)
	if err != nil {
		return told, err
	}
	request.Header.Set(secretHeader, secret)
	response, err := client.Do(request)
	switch {
	case ctx.Err() != nil:
		return told, fmt.Errorf("the classroom on port %d has not answered: %w", port, ctx.Err())
	case err != nil:
		return told, fmt.Errorf("no classroom runs on port %d: "+
			"start it with go run ./classroom, or name its port with -port", port)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, 4096))
		if err != nil {
			return told, err
		}
		return told, errors.New(strings.TrimSpace(string(text)))
	}
	return told, json.NewDecoder(response.Body).Decode(&told)
}
