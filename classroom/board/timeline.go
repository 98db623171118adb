package board

import (
	"errors"
	"html/template"

	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/history"
)

const (
	// columns is how many revisions the timeline shows.
	columns = 34

	// mostLanes is how many keys it tells apart: more than eight scroll.
	mostLanes = 60
)

// timeline returns the drawing that ends with the scene's revision. In the past that
// is marked, and the drawing ends at end, as long as it is in sight then.
func (s scene) timeline(past bool, end int64) template.HTML {
	// Between the changes of one learner lie those of all others.
	packed := s.roster != nil && s.prefix != ""
	last, mark := s.moment.Revision, int64(0)
	if past {
		mark, last = last, min(max(end, columns), s.record.Last())
		if mark > last {
			last = mark
		} else if mark <= last-columns && !packed {
			last = mark + columns - 1
		}
	}
	if last < 1 {
		return ""
	}
	options := drawing.Options{From: max(1, last-columns+1), To: last, Prefix: s.prefix, Hidden: s.hidden(),
		Lanes: mostLanes, LeaseName: func(id int64) string { return "…" + leaseName(id)[10:] },
		Interactive: true, Columns: columns, Mark: mark, Owners: s.roster != nil, Packed: packed}
	drawn, err := drawing.New(s.record, options)
	if err == nil && packed && mark > 0 && mark < drawn.First {
		options.To = mark
		drawn, err = drawing.New(s.record, options)
	}
	var svg []byte
	if err == nil {
		svg, err = drawn.SVG()
	}
	if err != nil {
		return html("unknown", err.Error())
	}
	return template.HTML(svg)
}

// changeView is one change as it is told in words.
type changeView struct {
	Kind          drawing.Kind
	Word, Key     string
	Before, After string
	HasBefore     bool
	HasAfter      bool
	Lease         string
}

type changesView struct {
	Revision int64
	Changes  []changeView
	Further  int
	Joined   int
	Nothing  string
}

// change returns what happened in a revision.
func change(record *history.Record, revision int64) changesView {
	view := changesView{Revision: revision}
	changes, err := record.Changes(revision, revision)
	switch {
	case errors.Is(err, history.ErrFuture):
		view.Nothing = "not reached yet."
	case err != nil:
		view.Nothing = "before what the board remembers."
	}
	if len(changes) > 1 {
		view.Joined = len(changes)
	}
	for i, c := range changes {
		if i == 20 {
			view.Further = len(changes) - i
			break
		}
		one := changeView{Kind: drawing.KindOf(c), Word: drawing.KindOf(c).Words(), Key: cut(drawing.Visible(c.Key), 200)}
		kv := c.After
		if c.Before != nil {
			one.HasBefore, one.Before = true, short([]byte(c.Before.Value), 120)
		}
		if c.After != nil {
			one.HasAfter, one.After = true, short([]byte(c.After.Value), 120)
		} else {
			kv = c.Before
		}
		if kv.Lease != 0 {
			one.Lease = leaseName(kv.Lease)
		}
		view.Changes = append(view.Changes, one)
	}
	return view
}
