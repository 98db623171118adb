// Package drawing draws what an etcd did, from its history, as SVG: a column for each
// revision, a lane for each key that changed, a coloured span for a lock, a bar for a
// lease. A drawing stands alone as a file, or is part of a page. It shows no times and
// no lease IDs, so runs that did the same have the same drawing.
package drawing

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"

	"example.com/etcd-by-example/classroom/history"
)

// Options say what is drawn of a record, and for what.
type Options struct {
	// Title is that of a drawing that stands alone. Default: which revisions it shows.
	Title string

	// From and To are the first and the last revision that have a column. Zero
	// stands for the last 200 changes that the record knows, and for its end. What
	// was before the record began is drawn as not known.
	From, To int64

	// Prefix is what the keys that have a lane begin with.
	Prefix string

	// Hidden, when it is set, tells which of them have none all the same.
	Hidden func(key string) bool

	// Lanes is how many keys are told apart; default 24. When more have changed in
	// the window, those that changed last are, and the others share a lane.
	Lanes int

	// Locks is what the keys of locks begin with. Default: "/cron/lock/".
	Locks string

	// Owners says that whose a key is stands before it, up to a colon.
	Owners bool

	// LeaseName says what a lease is called. Default: "lease A", "lease B", in the
	// order in which they appear.
	LeaseName func(id int64) string

	// Interactive makes a drawing that is part of a page, which brings Style: its
	// columns can be focused and pointed at, and say what happened in them.
	Interactive bool

	// Columns is for how many revisions it has room at least.
	Columns int

	// Packed leaves out the revisions that changed no key with the prefix. The last
	// Columns of the others up to To have a column, and From is not looked at.
	Packed bool

	// Mark is the revision that is chosen in it, or zero.
	Mark int64
}

// mostColumns bounds the size of a drawing.
const mostColumns = 10_000

// Kind is what a revision did to a key.
type Kind string

const (
	Created Kind = "created"
	Put     Kind = "put"
	Deleted Kind = "deleted"
	Expired Kind = "expired" // deleted with its lease, which nobody renewed in time
	Revoked Kind = "revoked" // deleted with its lease, which was revoked
	Ended   Kind = "ended"   // deleted with its lease, and it is not known how that ended
)

// kinds are all of them, in the order of a legend, with what they are called there
// and in a sentence.
var kinds = []struct {
	kind        Kind
	short, long string
}{
	{Created, "put, a new key", "put, created"},
	{Put, "put again", "put"},
	{Deleted, "delete", "deleted"},
	{Expired, "its lease expired", "expired with its lease"},
	{Revoked, "its lease was revoked", "deleted with its lease, which was revoked"},
	{Ended, "its lease ended", "deleted by its lease"},
}

// KindOf returns what a change did to its key.
func KindOf(c history.Change) Kind {
	switch {
	case c.After == nil && c.Ended != history.Alive:
		return Kind(c.Ended)
	case c.After == nil:
		return Deleted
	case c.Before == nil:
		return Created
	default:
		return Put
	}
}

// Words returns what the kind is called in a sentence, before a key.
func (k Kind) Words() string {
	for _, known := range kinds {
		if known.kind == k {
			return known.long
		}
	}
	return string(k)
}

// Shape returns the kind's mark, as SVG around the point 0,0, ten units to each side.
func (k Kind) Shape() template.HTML {
	switch k {
	case Created:
		return `<circle class="created" r="7"/>`
	case Put:
		return `<circle class="put" r="6"/>`
	case Deleted:
		return `<path class="deleted" d="M-6-6 6 6M6-6-6 6"/>`
	default: // Its name is one of the three that are left.
		return template.HTML(`<path class="` + template.HTMLEscapeString(string(k)) + `" d="M-6-8H6L-6 8H6Z"/>`)
	}
}

// Style is the CSS of any drawing, for light and dark. All of it begins with .drawing.
var Style = style + notesStyle

// A drawing that stands alone has only the style that it needs.
var (
	//go:embed drawing.css
	style string
	//go:embed notes.css
	notesStyle string
)

//go:embed drawing.svg.tmpl
var source string

var svg = template.Must(template.New("drawing").Parse(source))

// Drawing is a drawing that is finished, and never changes.
type Drawing struct {
	// First and Last are the revisions of its first and its last column.
	First, Last int64

	view view
}

// New draws a window of a record. The error wraps history.ErrFuture when the record
// has not come so far.
func New(record *history.Record, options Options) (*Drawing, error) {
	if options.Lanes == 0 {
		options.Lanes = 24
	}
	if options.Locks == "" {
		options.Locks = "/cron/lock/"
	}
	var w *window
	for {
		first := record.First()
		var err error
		if w, err = read(record, first, options); err == nil {
			break
		}
		// A record that is still filled may have forgotten something meanwhile.
		if !errors.Is(err, history.ErrForgotten) || record.First() == first {
			return nil, fmt.Errorf("draw a history: %w", err)
		}
	}
	return &Drawing{w.from, w.to, layOut(w, options)}, nil
}

// SVG returns the drawing as one <svg> element.
func (d *Drawing) SVG() ([]byte, error) {
	var text bytes.Buffer
	if err := svg.Execute(&text, d.view); err != nil {
		return nil, fmt.Errorf("write a drawing: %w", err)
	}
	return text.Bytes(), nil
}
