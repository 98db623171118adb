package board

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/history"
)

const maxBody = 64 << 10

var errUnknown = errors.New("unknown")

// handler serves the page to those who reach it as host. Guests of the public address
// can change nothing.
func (b *Board) handler(host string, guest bool) http.Handler {
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
	mux.HandleFunc("GET /moment", b.momentAt)
	mux.HandleFunc("GET /change", b.changeAt)
	mux.HandleFunc("GET /span", b.span)
	mux.HandleFunc("GET /value", b.valueAt)
	mux.HandleFunc("GET /assets/{name}", asset)
	mux.HandleFunc("GET /assets/drawing.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		io.WriteString(w, drawing.Style)
	})
	// What is no page, such as a value, cannot name its icon.
	mux.Handle("GET /favicon.ico", http.RedirectHandler("/assets/icon.svg", http.StatusFound))
	mux.HandleFunc("GET /exercises", b.exercises)
	mux.HandleFunc("GET /exercises/{name}", b.exercises)
	mux.HandleFunc("GET /exercises/{name}/refused.svg", b.refusedPicture)
	mux.Handle("/member/{name}/{action}", change(http.HandlerFunc(b.handle)))
	if b.config.Class != nil {
		mux.Handle("/class/{action}", change(http.HandlerFunc(b.handleClass)))
		mux.Handle("/class/{action}/{name}", change(http.HandlerFunc(b.handleClass)))
	}
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
		case !serves(host, r.Host):
			http.Error(w, fmt.Sprintf("this board is not %q: open the address that the classroom printed. "+
				"Behind a tunnel or a proxy, open localhost at the port where that listens, or have it send "+
				"the header Host: localhost", cut(drawing.Visible(r.Host), 100)), http.StatusMisdirectedRequest)
			return
		case guest && r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.Error(w, "from here you can look and change nothing", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		served.ServeHTTP(w, r)
	})
}

// serves reports whether a request's Host is one of those that the board has at host. A
// page of another name that leads here is an attack. The port may be another: that of a
// tunnel.
func serves(host, asked string) bool {
	name, _, err := net.SplitHostPort(asked)
	if err != nil {
		name = strings.Trim(asked, "[]")
	}
	ip := net.ParseIP(host)
	switch {
	case name == "localhost":
		return true
	case host == "" || ip != nil && ip.IsUnspecified():
		// It listens on all addresses. No name leads there but by somebody's DNS.
		return net.ParseIP(name) != nil
	case host == "localhost" || ip != nil && ip.IsLoopback():
		return name == "127.0.0.1" || name == "::1" || name == host
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
		"Kinds":   []drawing.Kind{drawing.Created, drawing.Put, drawing.Deleted, drawing.Expired, drawing.Revoked},
		"Saved":   b.config.Saved != nil,
		"Class":   b.class,
		"Handles": !guest && b.config.Class != nil,
	})
}

func asset(w http.ResponseWriter, r *http.Request) {
	switch name := r.PathValue("name"); name {
	case "board.css", "board.js", "class.css", "class.js", "exercises.css", "exercises.js", "icon.svg", "lessons.css", "lessons.js":
		http.ServeFileFS(w, r, assets, "assets/"+name)
	default:
		http.NotFound(w, r)
	}
}

// servePicture answers with an SVG. One that is opened alone is a document, which could
// run scripts: its policy lets it have its own style and nothing else.
func servePicture(w http.ResponseWriter, picture []byte) {
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; "+
		"sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Write(picture)
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

// read holds a place for a request that takes a while, for 5 s at most, and answers it
// itself when there is none.
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

// momentView is a moment as the page shows it.
type momentView struct {
	Revision int64      `json:"revision"`
	Time     string     `json:"time"` // for people
	Panels   []fragment `json:"panels"`
}

// momentAt answers with all panels as they were at a revision or at a time, or with
// the present of those that a prefix of the keys is for. Where the moment is not known,
// the table of keys says so.
func (b *Board) momentAt(w http.ResponseWriter, r *http.Request) {
	var revision int64
	millis, err := strconv.ParseInt(r.FormValue("time"), 10, 64)
	timed := r.FormValue("time") != ""
	past := timed || r.FormValue("rev") != ""
	if timed && err != nil {
		http.Error(w, "time must be in milliseconds since 1970", http.StatusBadRequest)
		return
	}
	if past && !timed {
		var ok bool
		if revision, ok = revisionOf(w, r); !ok {
			return
		}
	}
	ctx, done := b.read(w, r)
	if ctx == nil {
		return
	}
	defer done()
	record := b.source.Record()
	moment := record.Present()
	switch {
	case timed:
		moment, err = record.AtTime(time.UnixMilli(millis))
	case past:
		moment, err = record.At(revision)
	default:
		err = nil
	}
	view := momentView{Revision: revision}
	if err != nil {
		view.Panels = []fragment{{"replace", panelKeys, html("unknown", unknown(err, revision))}}
		panels := []string{panelLeases, panelLock, panelMembers}
		if b.class {
			panels = append(panels, panelClass, panelRoster)
		}
		for _, panel := range panels {
			view.Panels = append(view.Panels, fragment{"replace", panel, html("unknown", "Not known.")})
		}
	} else {
		s := b.scene(record, moment)
		s.prefix = r.FormValue("prefix")
		view.Revision, view.Time = s.moment.Revision, s.moment.Time.Format("15:04:05.0")
		end, _ := strconv.ParseInt(r.FormValue("end"), 10, 64)
		table := s.table(&b.rows)
		if past {
			table.Note = b.compacted(ctx, view.Revision)
			view.Panels = []fragment{
				{"replace", panelLeases, html("leases", s.leases())},
				{"replace", panelLock, html("lock", s.lock(b.told()))},
				{"replace", panelMembers, html("members", s.members(false))},
				{"replace", "change", html("change", change(s.record, view.Revision))},
			}
			if b.class {
				view.Panels = append(view.Panels,
					fragment{"replace", panelClass, html("class", s.classView(false))},
					fragment{"replace", panelRoster, html("roster", s.rosterView())})
			}
		}
		view.Panels = append(view.Panels,
			fragment{"replace", panelTimeline, s.timeline(past, end)},
			fragment{"replace", panelKeys, html("keys", table)})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(encode(view))
}

// unknown says why the record does not know a moment.
func unknown(err error, revision int64) string {
	switch {
	case revision == 0:
		return "The board does not know that time."
	case errors.Is(err, history.ErrFuture):
		return fmt.Sprintf("Revision %d is in the future: etcd has not reached it.", revision)
	default:
		return fmt.Sprintf("Revision %d is before what the board remembers.", revision)
	}
}

func (b *Board) changeAt(w http.ResponseWriter, r *http.Request) {
	revision, ok := revisionOf(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	templates.ExecuteTemplate(w, "change", change(b.source.Record(), revision))
}

// compacted says so when etcd itself has forgotten a revision that the board shows.
func (b *Board) compacted(ctx context.Context, revision int64) string {
	if b.client == nil || revision < 1 {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err := b.client.Get(ctx, "\x00", clientv3.WithRev(revision), clientv3.WithSerializable())
	if !errors.Is(err, rpctypes.ErrCompacted) {
		return ""
	}
	return fmt.Sprintf("Revision %d was compacted: etcd has forgotten it, and the board has not.", revision)
}

// spanView is what the slider can reach.
type spanView struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	Began int64 `json:"began"` // in milliseconds since 1970
	Heard int64 `json:"heard"`
}

func (b *Board) span(w http.ResponseWriter, _ *http.Request) {
	record := b.source.Record()
	present := record.Present()
	view := spanView{First: record.First(), Last: present.Revision, Heard: present.Time.UnixMilli()}
	if first, err := record.At(view.First); err == nil {
		view.Began = first.Time.UnixMilli()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(encode(view))
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
	if b.client == nil {
		http.Error(w, "there is no etcd to ask for the rest of this value", http.StatusNotFound)
		return
	}
	get, err := b.client.Get(ctx, string(key), clientv3.WithRev(revision))
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		http.Error(w, fmt.Sprintf("revision %d was compacted: etcd has forgotten it", revision), http.StatusNotFound)
	case err != nil:
		http.Error(w, cut(drawing.Visible("etcd does not tell: "+err.Error()), 200), http.StatusNotFound)
	case len(get.Kvs) == 0:
		http.Error(w, "at that revision there is no such key", http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		value := string(get.Kvs[0].Value)
		if b.class {
			value = class.Shown(string(key), value)
		}
		w.Write([]byte(long([]byte(value))))
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
