package board

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The timeline is drawn in units of its own, which the page scales. A revision
// has a column, a key has a lane.
const (
	columns     = 34
	columnWidth = 18
	laneCount   = 8 // the last one is for the keys that find no other
	laneHeight  = 28
	labelWidth  = 262
	labelLength = 22
	axisHeight  = 34
	width       = labelWidth + columns*columnWidth + 16
	height      = axisHeight + laneCount*laneHeight + 8
)

type timelineView struct {
	Width, Height     int
	Left, Column      int // where the columns begin, and how wide they are
	First, Last, Mark int64
	Focus             int64 // the revision that the Tab key finds
	MarkX             int
	Before            int // the width of what was before the board began
	Lanes             []laneView
	Ticks             []tickView
	Revisions         []revisionView
	Bottom            int
}

type laneView struct {
	Y, Line    int
	Label, Key string
}

type tickView struct {
	X        int
	Revision int64
}

// revisionView is a column with all changes of one transaction.
type revisionView struct {
	Revision        int64
	X, Center       int
	Top, Bottom     int // of the line that joins them
	Joined          bool
	Label           string
	Marks           []markView
	Hits, HitHeight int
}

type markView struct {
	X, Y int
	Kind kind
}

// words are what the page calls a kind of change.
var words = map[kind]string{
	created:  "put, created",
	replaced: "put",
	deleted:  "deleted",
	expired:  "expired with its lease",
	revoked:  "deleted with its lease, which was revoked",
	byLease:  "deleted by its lease",
}

// timeline returns the drawing for a revision of the past, or for now when that
// is 0. As long as the revision is in sight, the drawing ends at end.
func (s *state) timeline(mark, end int64) timelineView {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.revision
	if mark > 0 {
		last = min(max(end, columns), s.revision)
		if mark > last {
			last = mark
		} else if mark <= last-columns {
			last = mark + columns - 1
		}
	}
	first := max(1, last-columns+1)
	view := timelineView{Width: width, Height: height, Left: labelWidth, Column: columnWidth,
		First: first, Last: last, Mark: mark, Bottom: height - axisHeight - 4}
	x := func(revision int64) int {
		return labelWidth + int(revision-first)*columnWidth + columnWidth/2
	}
	if mark > 0 {
		view.MarkX = x(mark) - columnWidth/2
	}
	view.Before = columnWidth * int(min(max(0, s.started-first+1), columns))
	for revision := first; revision <= last; revision++ {
		if revision%5 == 0 {
			view.Ticks = append(view.Ticks, tickView{x(revision), revision})
		}
	}

	window := s.history[s.since(first):s.since(last+1)]
	lanes := s.keysOf(window)
	others := false
	for i := 0; i < len(window); {
		column := revisionView{Revision: window[i].revision, X: x(window[i].revision) - columnWidth/2,
			Center: x(window[i].revision), Top: height, Hits: axisHeight, HitHeight: height - axisHeight}
		var label strings.Builder
		fmt.Fprintf(&label, "Revision %d", column.Revision)
		drawn := map[markView]bool{}
		for count := 0; i < len(window) && window[i].revision == column.Revision; i++ {
			made := window[i]
			place, found := slices.BinarySearch(lanes, made.key)
			if !found {
				place, others = laneCount-1, true
			}
			mark := markView{column.Center, axisHeight + place*laneHeight + laneHeight/2, made.kind}
			if !drawn[mark] {
				drawn[mark] = true
				column.Marks = append(column.Marks, mark)
			}
			column.Top, column.Bottom = min(column.Top, mark.Y), max(column.Bottom, mark.Y)
			if count++; count <= 5 {
				fmt.Fprintf(&label, ", %s %s", words[made.kind], cut(visible(made.key), 60))
			}
		}
		column.Joined = column.Bottom > column.Top
		column.Label = label.String()
		view.Revisions = append(view.Revisions, column)
		if column.Revision <= mark || mark == 0 || view.Focus == 0 {
			view.Focus = column.Revision
		}
	}
	for i := range laneCount {
		lane := laneView{Y: axisHeight + i*laneHeight, Line: axisHeight + i*laneHeight + laneHeight/2}
		switch {
		case i < len(lanes):
			lane.Key = cut(visible(lanes[i]), 200)
			lane.Label = ending(visible(lanes[i]), labelLength)
		case i == laneCount-1 && others:
			lane.Label, lane.Key = "other keys", "other keys"
		}
		view.Lanes = append(view.Lanes, lane)
	}
	return view
}

// keysOf returns the keys that have a lane in a window, in order. Those that have
// one now keep it, unless keys of the window need it: so the lanes move only when
// a key is new to them.
func (s *state) keysOf(window []change) []string {
	inSight := map[string]bool{}
	for _, made := range window {
		inSight[made.key] = true
	}
	var keys, idle []string
	for _, lane := range s.lanes {
		if inSight[lane.key] {
			keys = append(keys, lane.key)
			delete(inSight, lane.key)
		} else {
			idle = append(idle, lane.key)
		}
	}
	for _, made := range slices.Backward(window) {
		if len(keys) < laneCount-1 && inSight[made.key] {
			keys = append(keys, made.key)
			delete(inSight, made.key)
		}
	}
	keys = append(keys, idle[:min(len(idle), laneCount-1-len(keys))]...)
	slices.Sort(keys)
	return keys
}

// ending returns the end of a text: that is where keys differ.
func ending(text string, length int) string {
	count := utf8.RuneCountInString(text)
	if count <= length {
		return text
	}
	return "…" + string([]rune(text)[count-length+1:])
}

// changeView is one change as it is told in words.
type changeView struct {
	Kind          kind
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

// told returns what happened in a revision.
func (s *state) told(revision int64) changesView {
	changes := s.at(revision)
	view := changesView{Revision: revision}
	if len(changes) > 1 {
		view.Joined = len(changes)
	}
	for i, made := range changes {
		if i == 20 {
			view.Further = len(changes) - i
			break
		}
		one := changeView{Kind: made.kind, Word: words[made.kind], Key: cut(visible(made.key), 200)}
		if made.before != nil {
			one.HasBefore, one.Before = true, short(made.before.start, 120)
		}
		if made.after != nil {
			one.HasAfter, one.After = true, short(made.after.start, 120)
		}
		if made.lease != 0 {
			one.Lease = leaseName(made.lease)
		}
		view.Changes = append(view.Changes, one)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(changes) > 0:
	case revision <= s.started:
		view.Nothing = "from before the board began: what changed was not seen."
	case revision > s.revision:
		view.Nothing = "not reached yet."
	default:
		view.Nothing = "forgotten by the board, which remembers " +
			fmt.Sprint(keptChanges) + " changes."
	}
	return view
}
