package board

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/history"
)

// What a page shows, at most.
const (
	shownKeys    = 200
	shownLeases  = 40
	shownValue   = 60 // characters of a value in one line
	shownHolders = 12 // former holders of locks
	shownRefused = 4  // stale writes
	shownLocks   = 10

	// lookedThrough is how many changes are looked through for what is shown of them.
	lookedThrough = 5000
)

// lockPrefix and jobPrefix are where lesson 08 keeps its lock and its result.
const (
	lockPrefix = "/cron/lock/"
	jobPrefix  = "/cron/jobs/"
)

//go:embed assets
var assets embed.FS

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

// scene is a moment and the record that it is from: all that the panels show of etcd.
type scene struct {
	record *history.Record
	moment *history.Moment
	prefix string // of the keys to show

	roster *class.Roster // nil when it is not a class's
	sheet  class.Sheet
}

// back calls do for the latest changes up to the moment, the last one first, until it
// returns false.
func (s scene) back(do func(history.Change) bool) {
	changes, err := s.record.Back(s.moment.Revision)
	if err != nil {
		return // All of it was forgotten meanwhile.
	}
	count := 0
	for change := range changes {
		if count++; count > lookedThrough || !do(change) {
			return
		}
	}
}

// identity names a key in an attribute.
func identity(key string) string {
	if len(key) > 200 {
		sum := sha256.Sum256([]byte(key))
		return hex.EncodeToString(sum[:])
	}
	return base64.RawURLEncoding.EncodeToString([]byte(key))
}

// leaseName is how a lease is called: the 16 digits of etcdctl.
func leaseName(id int64) string { return fmt.Sprintf("%016x", uint64(id)) }

// valueView is a value as the table shows it.
type valueView struct {
	Short string
	Long  string // empty when Short is all of it
	Kind  string
	Size  string
	All   string // where the rest is, when Long is only the beginning
}

func newValueView(kv *history.KeyValue) valueView {
	start := []byte(kv.Value)
	view := valueView{Short: short(start, shownValue), Kind: kindOf(start), Size: bytesOf(int64(kv.Size))}
	if kv.Size > len(start) {
		if len(kv.Key) <= 2000 {
			view.All = fmt.Sprintf("/value?key=%s&rev=%d",
				base64.RawURLEncoding.EncodeToString([]byte(kv.Key)), kv.Mod)
		}
		if view.Kind == kindBinary && !bytes.Contains(start, []byte{0}) {
			view.Kind = kindOf(bytes.ToValidUTF8(start, nil)) // Cut within a character.
		}
	}
	if view.All != "" || view.Short != kv.Value || view.Kind != kindText {
		view.Long = long(start)
		if view.Long == view.Short {
			view.Long = ""
		}
	}
	return view
}

// rows has the rows of the table as they were rendered: one for each change of a key.
type rows struct {
	mu   sync.Mutex
	html map[*history.KeyValue]template.HTML
}

func (r *rows) of(kv *history.KeyValue) template.HTML {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, known := r.html[kv]
	if !known {
		view := struct {
			ID, Key              string
			Value                valueView
			Version, Create, Mod int64
			Lease                string
		}{identity(kv.Key), cut(drawing.Visible(kv.Key), 200), newValueView(kv), kv.Version, kv.Create, kv.Mod, ""}
		if kv.Lease != 0 {
			view.Lease = leaseName(kv.Lease)
		}
		row = html("row", view)
		if r.html == nil || len(r.html) > 10*shownKeys {
			r.html = map[*history.KeyValue]template.HTML{}
		}
		r.html[kv] = row
	}
	return row
}

// tableView is the table of keys.
type tableView struct {
	Rows    []template.HTML
	Further int
	Empty   string
	Note    string
}

// table returns the keys. Of many, those that changed last are in it.
func (s scene) table(rows *rows) tableView {
	var keys []*history.KeyValue
	hidden := s.hidden()
	shown := func(kv *history.KeyValue) bool {
		return strings.HasPrefix(kv.Key, s.prefix) && (hidden == nil || !hidden(kv.Key))
	}
	total := s.moment.Len()
	if s.prefix != "" || hidden != nil {
		total = 0
		for kv := range s.moment.Range(s.prefix) {
			if shown(kv) {
				total++
			}
		}
	}
	chosen := map[*history.KeyValue]bool{}
	if total > shownKeys {
		s.back(func(c history.Change) bool {
			if kv := s.moment.Get(c.Key); kv != nil && shown(kv) {
				chosen[kv] = true
			}
			return len(chosen) < shownKeys
		})
	}
	for kv := range s.moment.Range(s.prefix) {
		if len(chosen) >= shownKeys {
			break
		}
		if shown(kv) {
			chosen[kv] = true
		}
	}
	for kv := range chosen {
		keys = append(keys, kv)
	}
	slices.SortFunc(keys, func(a, b *history.KeyValue) int { return cmp.Compare(a.Key, b.Key) })
	view := tableView{Further: total - len(keys)}
	for _, kv := range keys {
		view.Rows = append(view.Rows, rows.of(kv))
	}
	switch {
	case s.moment.Revision == 0:
		view.Empty = "The board has not read etcd yet."
	case len(keys) == 0 && s.prefix != "":
		view.Empty = "There is no key that begins so."
	case len(keys) == 0:
		view.Empty = "There is no key."
	}
	return view
}

// barView is what is left of a lease.
type barView struct {
	Granted int64
	Left    string // seconds, for the bar
	Seconds int64  // for people
}

// bar returns what was left of a lease at a time. etcd tells whole seconds, so the
// deadline lies between two times: in the middle, as far as is known.
func bar(l history.Lease, now time.Time) barView {
	left := 0.0
	if l.TTL > 0 && l.Ended == history.Alive {
		left = l.Early.Add(l.Late.Sub(l.Early) / 2).Sub(now).Seconds()
		left = min(max(left, 0), float64(l.TTL))
	}
	return barView{l.TTL, fmt.Sprintf("%.1f", left), int64(left + 0.5)}
}

// leaseView is a lease with its bar.
type leaseView struct {
	barView
	ID       string
	Renewals int
	Keys     []string
	End      string // the end of its ID, which tells it from others
	Gone     bool
	How      string
}

type leasesView struct {
	Leases  []leaseView
	Further int
	Desks   int // leases that say who is there, in a class: the roster tells of them
}

var endings = map[history.Ending]string{
	history.Expired: "expired",
	history.Revoked: "revoked",
	history.Ended:   "ended: expired or revoked",
}

func (s scene) leases() leasesView {
	var all leasesView
	for _, l := range s.moment.Leases() {
		if s.roster != nil && len(l.Keys) == 1 && class.OfDesk(l.Keys[0]) {
			all.Desks++
			continue
		}
		if len(all.Leases) == shownLeases {
			all.Further++
			continue
		}
		name := leaseName(l.ID)
		view := leaseView{barView: bar(l, s.moment.Time), ID: name, End: name[10:],
			Renewals: l.Renewals, Gone: l.Ended != history.Alive, How: endings[l.Ended]}
		for i, key := range l.Keys {
			if i == 5 {
				view.Keys = append(view.Keys, fmt.Sprintf("… and %d more", len(l.Keys)-i))
				break
			}
			view.Keys = append(view.Keys, cut(drawing.Visible(key), 60))
		}
		all.Leases = append(all.Leases, view)
	}
	return all
}

type lockView struct {
	Held    []holderView
	Former  []holderView
	Refused []refusal
	Further int
}

type holderView struct {
	barView
	Key, Name string
	Token     int64
	How       string
	Until     int64
	Since     string
}

// refusal is a write that came too late: with the token of a lock that another
// holds by now, or nobody.
type refusal struct {
	Key, Who string
	Token    int64
	Current  int64 // the lock's token at the time, 0 when it was free
	Revision int64 // at which it was written all the same; 0 when it was refused

	record *history.Record
	at     time.Time
}

// releases are the endings of a lock's key.
var releases = map[history.Ending]string{
	history.Expired: "lost, its lease expired",
	history.Revoked: "released",
	history.Ended:   "gone with its lease",
	history.Alive:   "deleted",
}

// lock returns who holds the locks, who held them, and the writes that came too late:
// those that went through, and those of which the lessons have told, as they leave no
// trace in etcd.
func (s scene) lock(told []refusal) lockView {
	var view lockView
	leases := s.leasesByID()
	tokens := map[string]int64{} // of the locks, at the change that is looked at
	for _, owner := range s.owners() {
		for kv := range s.moment.Range(owner + lockPrefix) {
			tokens[kv.Key] = kv.Create
			if len(view.Held) == shownLocks {
				view.Further++
				continue
			}
			view.Held = append(view.Held, s.holder(kv, leases))
		}
	}
	var refused []refusal
	s.back(func(c history.Change) bool {
		owner, own := s.split(c.Key)
		if strings.HasPrefix(own, lockPrefix) {
			if c.After == nil && len(view.Former) < shownHolders {
				view.Former = append(view.Former, holderView{Key: cut(drawing.Visible(c.Key), 60), Name: nameOf(c.Before),
					Token: c.Before.Create, How: releases[c.Ended], Until: c.Revision})
			}
			delete(tokens, c.Key)
			if c.Before != nil {
				tokens[c.Key] = c.Before.Create
			}
		}
		if r, stale := staleWrite(c, owner, tokens); stale && len(refused) < shownRefused {
			refused = append(refused, r)
		}
		return true
	})
	for _, r := range told {
		if r.record == s.record && !r.at.After(s.moment.Time) {
			view.Refused = append(view.Refused, r)
		}
	}
	slices.Reverse(view.Refused)
	view.Refused = append(view.Refused, refused...)
	slices.SortStableFunc(view.Refused, func(a, b refusal) int { return b.at.Compare(a.at) })
	view.Refused = view.Refused[:min(len(view.Refused), shownRefused)]
	return view
}

func (s scene) leasesByID() map[int64]history.Lease {
	leases := map[int64]history.Lease{}
	for _, l := range s.moment.Leases() {
		leases[l.ID] = l
	}
	return leases
}

// holder returns who holds a lock, as it is shown.
func (s scene) holder(kv *history.KeyValue, leases map[int64]history.Lease) holderView {
	return holderView{Key: cut(drawing.Visible(kv.Key), 60), Name: nameOf(kv), Token: kv.Create,
		Since: s.since(kv), barView: bar(leases[kv.Lease], s.moment.Time)}
}

// nameOf returns who holds a lock: its value says so.
func nameOf(lock *history.KeyValue) string { return short([]byte(lock.Value), 40) }

var resultText = regexp.MustCompile(`^done by (.{1,100}), token (\d{1,18})$`)

// staleWrite reports whether a change of an owner's key is a result of lesson 08 by
// somebody who did not hold the lock: that is what happens with -guard=false.
func staleWrite(c history.Change, owner string, tokens map[string]int64) (refusal, bool) {
	job, found := strings.CutPrefix(c.Key, owner+jobPrefix)
	if !found || c.After == nil {
		return refusal{}, false
	}
	parts := resultText.FindStringSubmatch(c.After.Value)
	if parts == nil {
		return refusal{}, false
	}
	token, err := strconv.ParseInt(parts[2], 10, 64)
	current := tokens[owner+lockPrefix+job]
	if err != nil || token == current {
		return refusal{}, false
	}
	return refusal{Key: cut(drawing.Visible(c.Key), 60), Who: cut(drawing.Visible(parts[1]), 40), Token: token,
		Current: current, Revision: c.Revision, at: c.Seen}, true
}

var refusedText = regexp.MustCompile(
	`put (/cron/jobs/\S{1,200}): token (\d{1,18}) is stale, the lock was lost`)

// refused returns the write of which a line tells that it was refused.
func (s scene) refused(line string) (refusal, bool) {
	parts := refusedText.FindStringSubmatch(line)
	if parts == nil {
		return refusal{}, false
	}
	token, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return refusal{}, false
	}
	r := refusal{Key: cut(drawing.Visible(parts[1]), 60), Token: token, record: s.record, at: s.moment.Time}
	lock := s.mine() + lockPrefix + strings.TrimPrefix(parts[1], jobPrefix)
	if kv := s.moment.Get(lock); kv != nil {
		r.Current = kv.Create
	}
	s.back(func(c history.Change) bool {
		if c.Key == lock && c.Revision == token && c.After != nil {
			r.Who = nameOf(c.After)
		}
		return r.Who == ""
	})
	return r, true
}

// memberView is a member as the page shows it.
type memberView struct{ history.Member }

// Roles that cluster.Member.State tells.
const (
	rolePaused  history.Role = "paused"
	roleCutOff  history.Role = "cut off"
	roleStopped history.Role = "stopped"
)

// The methods are for the template.
func (m memberView) Alive() bool      { return m.Role.Answers() }
func (m memberView) Leads() bool      { return m.Role == history.Leader }
func (m memberView) SizeText() string { return bytesOf(m.Size) }
func (m memberView) Stopped() bool    { return m.Role == roleStopped }
func (m memberView) IsPaused() bool   { return m.Role == rolePaused }
func (m memberView) IsCutOff() bool   { return m.Role == roleCutOff }

type membersView struct {
	Members []memberView
	Handles bool
}

func (s scene) members(handles bool) membersView {
	view := membersView{Handles: handles}
	for _, m := range s.moment.Members {
		m.Name = cut(drawing.Visible(m.Name), 40)
		m.Role = cmp.Or(m.Role, "not asked yet")
		view.Members = append(view.Members, memberView{m})
	}
	return view
}
