package board

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const maxBody = 64 << 10

var errUnknown = errors.New("unknown")

// handler serves the page to those who reach it as host and port. Guests of the
// public address can change nothing.
func (b *Board) handler(host string, port int, guest bool) http.Handler {
	mux := http.NewServeMux()
	change := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				w.Header().Set("Allow", http.MethodPost)
				http.Error(w, "this takes a POST", http.StatusMethodNotAllowed)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { b.page(w, guest) })
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { b.stream.serve(w, r, guest) })
	mux.HandleFunc("GET /keys", b.keysAt)
	mux.HandleFunc("GET /timeline", b.timelineAt)
	mux.HandleFunc("GET /change", b.changeAt)
	mux.HandleFunc("GET /value", b.valueAt)
	mux.HandleFunc("GET /assets/{name}", asset)
	// What is no page, such as a value, cannot name its icon.
	mux.Handle("GET /favicon.ico", http.RedirectHandler("/assets/icon.svg", http.StatusFound))
	mux.Handle("/member/{name}/{action}", change(http.HandlerFunc(b.handle)))
	b.lessons.register(mux, change)

	var served http.Handler = http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; "+
			"style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "+
			"form-action 'none'; frame-ancestors 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		switch {
		case !serves(host, port, r.Host):
			http.Error(w, fmt.Sprintf("this board is not %q: open the address that "+
				"the classroom printed", cut(visible(r.Host), 100)), http.StatusMisdirectedRequest)
			return
		case guest && r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.Error(w, "from here you can look and change nothing", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		served.ServeHTTP(w, r)
	})
}

// serves reports whether a request's Host is one of those that the board has at
// host and port. A page of another name that leads here is an attack.
func serves(host string, port int, asked string) bool {
	name, number, err := net.SplitHostPort(asked)
	if err != nil {
		name, number = asked, "80"
		if len(name) > 2 && name[0] == '[' {
			name = name[1 : len(name)-1]
		}
	}
	if number != strconv.Itoa(port) {
		return false
	}
	ip := net.ParseIP(host)
	switch {
	case host == "" || ip != nil && ip.IsUnspecified():
		// It listens on all addresses. No name leads there but by somebody's DNS.
		return net.ParseIP(name) != nil || name == "localhost"
	case host == "localhost" || ip != nil && ip.IsLoopback():
		return name == "localhost" || name == "127.0.0.1" || name == "::1" || name == host
	default:
		return name == host
	}
}

func (b *Board) page(w http.ResponseWriter, guest bool) {
	heard := b.stream.heard()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	templates.ExecuteTemplate(w, "page.html", map[string]any{
		"Panels":  b.stream.content(guest),
		"Lessons": b.lessons.render(!guest),
		"Board":   b.stream.begun,
		"Heard":   heard,
		"Guest":   guest,
	})
}

func asset(w http.ResponseWriter, r *http.Request) {
	switch name := r.PathValue("name"); name {
	case "board.css", "board.js", "icon.svg", "lessons.css", "lessons.js":
		http.ServeFileFS(w, r, assets, "assets/"+name)
	default:
		http.NotFound(w, r)
	}
}

// revisionOf returns the revision that a request names.
func revisionOf(w http.ResponseWriter, r *http.Request) (int64, bool) {
	revision, err := strconv.ParseInt(r.FormValue("rev"), 10, 64)
	if err != nil || revision < 1 {
		http.Error(w, "rev must be a revision: a number from 1 on", http.StatusBadRequest)
		return 0, false
	}
	return revision, true
}

// read gives a request for the past a client and a time limit, and answers it
// itself when too many are under way.
func (b *Board) read(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	select {
	case b.reading <- struct{}{}:
		return ctx, func() { <-b.reading; cancel() }
	case <-ctx.Done():
		cancel()
		http.Error(w, "too many look at the past: try again", http.StatusServiceUnavailable)
		return nil, nil
	}
}

// pastView is the table of keys at a revision of the past.
type pastView struct {
	Revision int64
	Trouble  string
	Table    tableView
}

func (b *Board) keysAt(w http.ResponseWriter, r *http.Request) {
	revision, ok := revisionOf(w, r)
	if !ok {
		return
	}
	ctx, done := b.read(w, r)
	if ctx == nil {
		return
	}
	defer done()
	view := pastView{Revision: revision}
	get, err := b.client.Get(ctx, "\x00", clientv3.WithFromKey(),
		clientv3.WithRev(revision), clientv3.WithLimit(shownKeys))
	switch {
	case err == nil:
		for _, kv := range get.Kvs {
			view.Table.Rows = append(view.Table.Rows, html("row", newItem(kv).view()))
		}
		view.Table.Further = get.Count - int64(len(get.Kvs))
		if len(get.Kvs) == 0 {
			view.Table.Empty = "There was no key."
		}
	default:
		view.Trouble = trouble(err, revision)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	templates.ExecuteTemplate(w, "past", view)
}

// trouble says why a revision cannot be read.
func trouble(err error, revision int64) string {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return fmt.Sprintf("Revision %d was compacted: etcd has forgotten it.", revision)
	case errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Sprintf("Revision %d is in the future: etcd has not reached it.", revision)
	default:
		return fmt.Sprintf("Revision %d cannot be read: %s.", revision, cut(visible(err.Error()), 200))
	}
}

func (b *Board) timelineAt(w http.ResponseWriter, r *http.Request) {
	revision, ok := revisionOf(w, r)
	if !ok {
		return
	}
	end, _ := strconv.ParseInt(r.FormValue("end"), 10, 64)
	_, seen := b.state.seen()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	templates.ExecuteTemplate(w, "timeline", b.state.timeline(min(revision, max(seen, 1)), end))
}

func (b *Board) changeAt(w http.ResponseWriter, r *http.Request) {
	revision, ok := revisionOf(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	templates.ExecuteTemplate(w, "change", b.state.told(revision))
}

// valueAt answers with all of a value, as plain text whatever it is.
func (b *Board) valueAt(w http.ResponseWriter, r *http.Request) {
	revision, ok := revisionOf(w, r)
	if !ok {
		return
	}
	key, err := base64.RawURLEncoding.DecodeString(r.FormValue("key"))
	if err != nil || len(key) == 0 {
		http.Error(w, "key must be a key in URL-safe base64", http.StatusBadRequest)
		return
	}
	ctx, done := b.read(w, r)
	if ctx == nil {
		return
	}
	defer done()
	get, err := b.client.Get(ctx, string(key), clientv3.WithRev(revision))
	switch {
	case err != nil:
		http.Error(w, trouble(err, revision), http.StatusNotFound)
	case len(get.Kvs) == 0:
		http.Error(w, "at that revision there is no such key", http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte(long(get.Kvs[0].Value)))
	}
}

// handle does to a member what a button asks for.
func (b *Board) handle(w http.ResponseWriter, r *http.Request) {
	if !b.acting.TryLock() {
		http.Error(w, "another member is being stopped or started: wait for it",
			http.StatusConflict)
		return
	}
	defer b.acting.Unlock()
	switch err := b.act(r.PathValue("name"), r.PathValue("action")); {
	case errors.Is(err, errUnknown):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
