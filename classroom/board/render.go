package board

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
)

//go:embed assets
var assets embed.FS

// The panels, by the ids of their elements.
const (
	panelRevision = "revision"
	panelTrouble  = "trouble"
	panelTimeline = "timeline"
	panelKeys     = "keys"
	panelLeases   = "leases"
	panelLock     = "lock"
	panelMembers  = "members"
)

// every is how long a panel stays as it is at least. The big ones come less
// often, so that many changes do not keep 100 browsers busy.
var every = map[string]time.Duration{
	panelRevision: 50 * time.Millisecond,
	panelTimeline: 50 * time.Millisecond,
	panelTrouble:  50 * time.Millisecond,
	panelLock:     50 * time.Millisecond,
	panelLeases:   100 * time.Millisecond,
	panelMembers:  100 * time.Millisecond,
	panelKeys:     300 * time.Millisecond,
}

const (
	shownKeys   = 200
	shownLeases = 40
	shownValue  = 60 // characters of a value in one line
)

var templates = template.Must(template.New("").ParseFS(assets, "assets/*.html"))

// html executes a template. The templates and their data are fixed, so an error
// is a mistake in this package; it is shown where the content would be.
func html(name string, data any) template.HTML {
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, data); err != nil {
		return template.HTML(template.HTMLEscapeString(err.Error()))
	}
	return template.HTML(text.String())
}

// render pushes what has changed, until the board is closed.
func (b *Board) render() {
	last := map[string]time.Time{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-b.state.wake:
		case <-timer.C:
		}
		now := time.Now()
		wait := time.Duration(-1)
		b.state.mu.Lock()
		var due []string
		for panel := range b.state.dirty {
			left := every[panel] - now.Sub(last[panel])
			if left <= 0 {
				due = append(due, panel)
				last[panel] = now
				delete(b.state.dirty, panel)
			} else if wait < 0 || left < wait {
				wait = left
			}
		}
		b.state.mu.Unlock()
		// What is small and waited for comes first.
		slices.SortFunc(due, func(a, b string) int { return int(every[a] - every[b]) })
		for _, panel := range due {
			b.renderPanel(panel, now)
		}
		if wait >= 0 {
			timer.Reset(wait)
		}
	}
}

func (b *Board) renderAll() {
	for panel := range every {
		b.renderPanel(panel, time.Now())
	}
}

func (b *Board) renderPanel(panel string, now time.Time) {
	var content, guest template.HTML
	switch panel {
	case panelRevision:
		b.state.mu.Lock()
		revision := b.state.revision
		b.state.mu.Unlock()
		content = html("revision", revision)
	case panelTrouble:
		b.troubled.Lock()
		content = html("trouble", b.trouble)
		b.troubled.Unlock()
	case panelTimeline:
		content = html("timeline", b.state.timeline(0, 0))
	case panelKeys:
		content = html("keys", b.state.table())
	case panelLeases:
		content = html("leases", b.state.leaseViews(now))
	case panelLock:
		content = html("lock", b.state.lockView(now))
	case panelMembers:
		content = html("members", b.members.view(true))
		guest = html("members", b.members.view(false))
		b.stream.panel(panel, content, guest)
		return
	}
	b.stream.panel(panel, content, content)
}

// identity names a key in an attribute.
func identity(key string) string {
	if len(key) > 200 {
		sum := sha256.Sum256([]byte(key))
		return hex.EncodeToString(sum[:])
	}
	return base64.RawURLEncoding.EncodeToString([]byte(key))
}

// valueView is a value as the table shows it.
type valueView struct {
	Short string
	Long  string // empty when Short is all of it
	Kind  string
	Size  string
	All   string // where the rest is, when Long is only the beginning
}

func newValueView(key string, v *value, revision int64) valueView {
	view := valueView{Short: short(v.start, shownValue), Kind: kindOf(v.start),
		Size: bytesOf(int64(v.size))}
	text := string(v.start)
	if v.size > len(v.start) {
		if len(key) <= 2000 {
			view.All = fmt.Sprintf("/value?key=%s&rev=%d",
				base64.RawURLEncoding.EncodeToString([]byte(key)), revision)
		}
		if view.Kind == kindBinary && !bytes.Contains(v.start, []byte{0}) {
			view.Kind = kindOf(bytes.ToValidUTF8(v.start, nil)) // Cut within a character.
		}
	}
	if view.All != "" || view.Short != text || view.Kind != kindText {
		view.Long = long(v.start)
		if view.Long == view.Short {
			view.Long = ""
		}
	}
	return view
}

// keyView is a row of the table of keys.
type keyView struct {
	ID, Key              string
	Value                valueView
	Version, Create, Mod int64
	Lease                string
}

func (i *item) view() keyView {
	view := keyView{ID: identity(i.key), Key: cut(visible(i.key), 200),
		Value: newValueView(i.key, i.value, i.mod), Version: i.version,
		Create: i.create, Mod: i.mod}
	if i.lease != 0 {
		view.Lease = leaseName(i.lease)
	}
	return view
}

// tableView is the table of keys.
type tableView struct {
	Rows    []template.HTML
	Further int64
	Empty   string
}

// table returns the keys as they are now. Of many, those that changed last are
// in it. A row is rendered once for each change of its key.
func (s *state) table() tableView {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.sorted
	if len(names) > shownKeys {
		chosen := map[string]bool{}
		for i := len(s.history) - 1; i >= 0 && len(chosen) < shownKeys; i-- {
			if key := s.history[i].key; s.keys[key] != nil {
				chosen[key] = true
			}
		}
		for i := 0; len(chosen) < shownKeys; i++ {
			chosen[s.sorted[i]] = true
		}
		names = make([]string, 0, len(chosen))
		for key := range chosen {
			names = append(names, key)
		}
		slices.Sort(names)
	}
	view := tableView{Further: s.total - int64(len(names))}
	for _, name := range names {
		i := s.keys[name]
		if i.row == "" {
			i.row = html("row", i.view())
		}
		view.Rows = append(view.Rows, i.row)
	}
	if s.revision == 0 {
		view.Empty = "The board has not read etcd yet."
	} else if len(names) == 0 {
		view.Empty = "There is no key."
	}
	return view
}

// leaseView is a lease with its bar.
type leaseView struct {
	ID       string
	Granted  int64
	Left     string // seconds, for the bar
	Seconds  int64  // for people
	Known    bool
	Renewals int
	Keys     []string
	End      string // the end of its ID, which tells it from others
	Gone     bool
	How      string
}

type leasesView struct {
	Leases  []leaseView
	Further int
}

var endings = map[kind]string{
	expired: "expired",
	revoked: "revoked",
	byLease: "ended: expired or revoked",
	deleted: "deleted",
}

func (s *state) leaseViews(now time.Time) leasesView {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := leasesView{Further: s.further}
	for _, id := range s.order {
		if len(all.Leases) == shownLeases {
			all.Further++
			continue
		}
		l := s.leases[id]
		view := leaseView{ID: leaseName(id), End: leaseName(id)[10:], Granted: l.granted,
			Known: !l.early.IsZero(), Renewals: l.renewals,
			Gone: !l.gone.IsZero(), How: endings[l.how]}
		view.Left, view.Seconds = l.bar(now)
		keys := l.took
		if !view.Gone {
			keys = nil
			for key := range s.attached[id] {
				keys = append(keys, key)
			}
		}
		keys = slices.Sorted(slices.Values(keys))
		for i, key := range keys {
			if i == 5 {
				view.Keys = append(view.Keys, fmt.Sprintf("… and %d more", len(keys)-i))
				break
			}
			view.Keys = append(view.Keys, cut(visible(key), 60))
		}
		all.Leases = append(all.Leases, view)
	}
	return all
}

type lockView struct {
	Held    []holderView
	Former  []holderView
	Refused []refusalView
	Further int
}

type holderView struct {
	Key, Name string
	Token     int64
	How       string
	Until     int64
	Left      string
	Granted   int64
	Seconds   int64
}

type refusalView struct {
	Key, Who       string
	Token, Current int64
	Revision       int64
}

// releases are the endings of a lock's key.
var releases = map[kind]string{
	expired: "lost, its lease expired",
	revoked: "released",
	byLease: "gone with its lease",
	deleted: "deleted",
}

func (s *state) lockView(now time.Time) lockView {
	s.mu.Lock()
	defer s.mu.Unlock()
	var view lockView
	first, _ := slices.BinarySearch(s.sorted, lockPrefix)
	for _, key := range s.sorted[first:] {
		if !strings.HasPrefix(key, lockPrefix) {
			break
		}
		if len(view.Held) == 10 {
			view.Further++
			continue
		}
		i := s.keys[key]
		h := holderView{Key: cut(visible(key), 60), Name: short(i.value.start, 40),
			Token: i.create}
		if l := s.leases[i.lease]; l != nil && l.granted > 0 {
			h.Granted = l.granted
			h.Left, h.Seconds = l.bar(now)
		}
		view.Held = append(view.Held, h)
	}
	for _, h := range slices.Backward(s.holders) {
		view.Former = append(view.Former, holderView{Key: cut(visible(h.key), 60),
			Name: short(h.name.start, 40), Token: h.token, How: releases[h.how], Until: h.until})
	}
	for _, r := range slices.Backward(s.refused) {
		view.Refused = append(view.Refused, refusalView{Key: cut(visible(r.key), 60),
			Who: cut(visible(r.who), 40), Token: r.token, Current: r.current, Revision: r.revision})
	}
	return view
}

type membersView struct {
	Members []memberView
	Handles bool
}

// The methods are for the template.
func (m memberView) Alive() bool      { return answers(m.Role) }
func (m memberView) Leads() bool      { return m.Role == "leader" }
func (m memberView) SizeText() string { return bytesOf(m.Size) }
func (m memberView) Stopped() bool    { return m.Role == roleStopped }
func (m memberView) IsPaused() bool   { return m.Role == rolePaused }

func (m *memberList) view(handles bool) membersView {
	m.mu.Lock()
	defer m.mu.Unlock()
	view := membersView{Members: slices.Clone(m.list), Handles: handles}
	for i := range view.Members {
		view.Members[i].Name = cut(visible(view.Members[i].Name), 40)
		view.Handles = view.Handles && view.Members[i].handle != nil
	}
	return view
}
