package board

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// What browsers may cost, at most.
const (
	maxViewers = 100     // of guests, and of others: a class of guests keeps no teacher out
	maxPending = 1 << 20 // bytes that wait for one viewer
	beatEvery  = 5 * time.Second

	// writeEvery keeps what reaches a browser under 30 updates a second. The more there
	// are, the fewer each of them gets: together under 500.
	writeEvery    = 34 * time.Millisecond
	writeEveryAll = 2 * time.Millisecond
	writeLimit    = 10 * time.Second
)

// sink is what pushes changes of the page to all browsers.
type sink interface {
	// replace gives the element with that id a new content; the last one wins.
	replace(id string, html template.HTML)

	// append adds at the end of the element's content. The caller bounds how
	// much there is. A child whose own id is on the page already is left out.
	append(id string, html template.HTML)
}

// message is one change of the page, as JSON, for both kinds of viewers: those that may
// change something, and those that may only look.
type message struct {
	do    string // replace or append
	id    string
	own   []byte
	guest []byte
}

func (m message) data(guest bool) []byte {
	if guest {
		return m.guest
	}
	return m.own
}

// fragment is what a message tells the browser.
type fragment struct {
	Do   string        `json:"do"`
	ID   string        `json:"id"`
	HTML template.HTML `json:"html"`
}

// encode returns JSON that is one line.
func encode(body any) []byte {
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false)
	encoder.Encode(body) // The types here cannot fail.
	return bytes.TrimSuffix(data.Bytes(), []byte("\n"))
}

// stream has all viewers. It never waits for one.
type stream struct {
	mu      sync.Mutex
	viewers map[*viewer]bool
	panels  map[string][2]fragment // as they are now, for own viewers and guests
	ids     []string
	begun   string // names this run of the board
	spoken  int64  // how often the lessons have pushed something
	lessons *lessons
}

func newStream() *stream {
	return &stream{
		viewers: map[*viewer]bool{},
		panels:  map[string][2]fragment{},
		begun:   strconv.FormatInt(time.Now().UnixNano(), 36),
	}
}

// viewer is one browser's stream.
type viewer struct {
	guest   bool
	mu      sync.Mutex
	pending []message
	size    int
	missed  bool // too much was pending: it needs a snapshot
	wake    chan struct{}
}

// add queues a message, or forgets all when too many are queued.
func (v *viewer) add(m message) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.missed {
		return
	}
	if m.do == "replace" {
		v.pending = slices.DeleteFunc(v.pending, func(old message) bool {
			if old.id == m.id {
				v.size -= len(old.data(v.guest))
			}
			return old.id == m.id
		})
	}
	v.pending = append(v.pending, m)
	if v.size += len(m.data(v.guest)); v.size > maxPending {
		v.pending, v.size, v.missed = nil, 0, true
	}
	select {
	case v.wake <- struct{}{}:
	default: // It is to wake already.
	}
}

// take returns what is queued, and whether a snapshot must come first.
func (v *viewer) take() ([]message, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	pending, missed := v.pending, v.missed
	v.pending, v.size, v.missed = nil, 0, false
	return pending, missed
}

// pace returns how long a viewer waits for the next update, at least.
func (s *stream) pace() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(writeEvery, time.Duration(len(s.viewers))*writeEveryAll)
}

// push is called with mu held.
func (s *stream) push(m message) {
	for v := range s.viewers {
		v.add(m)
	}
}

// panel gives a panel a new content, unless it is the one that it has.
func (s *stream) panel(id string, own, guest template.HTML) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := [2]fragment{{"replace", id, own}, {"replace", id, guest}}
	before, known := s.panels[id]
	if known && before == now {
		return
	}
	if !known {
		s.ids = append(s.ids, id)
	}
	s.panels[id] = now
	m := message{do: "replace", id: id, own: encode(now[0])}
	m.guest = m.own
	if own != guest {
		m.guest = encode(now[1])
	}
	s.push(m)
}

// content returns all panels as they are, for a page that is loaded.
func (s *stream) content(guest bool) map[string]template.HTML {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]template.HTML{}
	for id, both := range s.panels {
		all[id] = both[0].HTML
		if guest {
			all[id] = both[1].HTML
		}
	}
	return all
}

// heard names the state of the lessons, so that a page that has just been loaded
// is not given them again.
func (s *stream) heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun + "-" + strconv.FormatInt(s.spoken, 36)
}

// snapshot returns the whole page as JSON, without the lessons when the
// viewer has them.
func (s *stream) snapshot(guest bool, heard string) []byte {
	var body struct {
		Board  string     `json:"board"`
		Panels []fragment `json:"panels"`
	}
	body.Board = s.begun
	lessonsToo := heard != s.heard()
	s.mu.Lock()
	for _, id := range s.ids {
		if guest {
			body.Panels = append(body.Panels, s.panels[id][1])
		} else {
			body.Panels = append(body.Panels, s.panels[id][0])
		}
	}
	s.mu.Unlock()
	if lessonsToo && s.lessons != nil {
		s.lessons.state((*panels)(&body.Panels))
	}
	return encode(body)
}

// panels collects what the lessons tell one viewer.
type panels []fragment

func (p *panels) replace(id string, html template.HTML) {
	*p = append(*p, fragment{"replace", id, html})
}

func (p *panels) append(id string, html template.HTML) {
	*p = append(*p, fragment{"append", id, html})
}

// count returns how many guests look, or how many others. It is called with mu held.
func (s *stream) count(guest bool) int {
	count := 0
	for v := range s.viewers {
		if v.guest == guest {
			count++
		}
	}
	return count
}

// serve writes the stream to one browser until it goes away.
func (s *stream) serve(w http.ResponseWriter, r *http.Request, guest bool) {
	v := &viewer{guest: guest, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	full := s.count(guest) >= maxViewers
	if !full {
		s.viewers[v] = true
	}
	s.mu.Unlock()
	if full {
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d browsers look at this board already: "+
			"close one of them", maxViewers), http.StatusServiceUnavailable)
		return
	}
	defer func() {
		s.mu.Lock()
		delete(s.viewers, v)
		s.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	write := func(event string, parts ...[]byte) bool {
		control.SetWriteDeadline(time.Now().Add(writeLimit))
		fmt.Fprintf(w, "event: %s\ndata: ", event)
		for _, part := range parts {
			w.Write(part)
		}
		io.WriteString(w, "\n\n")
		return control.Flush() == nil // It tells of failures before it, too.
	}
	if !write("snapshot", s.snapshot(guest, r.FormValue("heard"))) {
		return
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			if !write("beat", []byte("{}")) {
				return
			}
		case <-v.wake:
			messages, missed := v.take()
			if missed && !write("snapshot", s.snapshot(guest, "")) {
				return
			}
			if len(messages) > 0 && !write("update", list(messages, guest)...) {
				return
			}
			select {
			case <-r.Context().Done():
			case <-time.After(s.pace()):
			}
		}
	}
}

// list returns the parts of the JSON list of messages. What they hold is shared
// by all viewers and is not copied.
func list(messages []message, guest bool) [][]byte {
	parts := [][]byte{[]byte("[")}
	for i, m := range messages {
		if i > 0 {
			parts = append(parts, []byte(","))
		}
		parts = append(parts, m.data(guest))
	}
	return append(parts, []byte("]"))
}

// lessonSink is the stream as the lessons see it.
type lessonSink struct{ stream *stream }

func (l lessonSink) replace(id string, html template.HTML) { l.send("replace", id, html) }
func (l lessonSink) append(id string, html template.HTML)  { l.send("append", id, html) }

func (l lessonSink) send(do, id string, html template.HTML) {
	data := encode(fragment{do, id, html})
	l.stream.mu.Lock()
	defer l.stream.mu.Unlock()
	l.stream.spoken++
	l.stream.push(message{do, id, data, data})
}
