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
	columns     = 36
	columnWidth = 18
	laneCount   = 8 // the last one is for the keys that find no other
	laneHeight  = 28
	labelWidth  = 236
	labelLength = 20
	axisHeight  = 34
	width       = labelWidth + columns*columnWidth + 16
	height      = axisHeight + laneCount*laneHeight + 8
)

type timelineView struct {
	Width, Height, Left int
	First, Last, Mark   int64
	MarkX               int
	Before              int // the width of what was before the board began
	Lanes               []laneView
	Ticks               []tickView
	Revisions           []revisionView
	Bottom              int
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
	view := timelineView{Width: width, Height: height, Left: labelWidth,
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

	from, _ := slices.BinarySearchFunc(s.history, first,
		func(made change, revision int64) int { return int(made.revision - revision) })
	to, _ := slices.BinarySearchFunc(s.history, last+1,
		func(made change, revision int64) int { return int(made.revision - revision) })
	window := s.history[from:to]
	places := s.places(window)
	labels := make([]string, laneCount)
	for i := 0; i < len(window); {
		column := revisionView{Revision: window[i].revision, X: x(window[i].revision) - columnWidth/2,
			Center: x(window[i].revision), Top: height, Hits: axisHeight, HitHeight: height - axisHeight}
		var label strings.Builder
		fmt.Fprintf(&label, "Revision %d", column.Revision)
		drawn := map[markView]bool{}
		for count := 0; i < len(window) && window[i].revision == column.Revision; i++ {
			made := window[i]
			place := laneCount - 1
			if at, found := places[made.key]; found {
				place = at
				labels[place] = made.key
			} else {
				labels[place] = otherKeys
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
	}
	for i, key := range labels {
		lane := laneView{Y: axisHeight + i*laneHeight, Line: axisHeight + i*laneHeight + laneHeight/2}
		if key == otherKeys {
			lane.Label, lane.Key = "other keys", "other keys"
		} else if key != "" {
			lane.Key = cut(visible(key), 200)
			lane.Label = ending(visible(key), labelLength)
		}
		view.Lanes = append(view.Lanes, lane)
	}
	return view
}

// otherKeys labels the lane of the keys that have none. No key is called so:
// etcd has no empty keys, and this one stands for none of them.
const otherKeys = "\x00other"

// places gives the keys of a window their lanes: that which they have now, or
// one that is free in this window.
func (s *state) places(window []change) map[string]int {
	inSight := map[string]bool{}
	for _, made := range window {
		inSight[made.key] = true
	}
	places := map[string]int{}
	var free []int
	for i, lane := range s.lanes {
		if inSight[lane.key] {
			places[lane.key] = i
		} else {
			free = append(free, i)
		}
	}
	for _, made := range slices.Backward(window) {
		if _, found := places[made.key]; !found && len(free) > 0 {
			places[made.key], free = free[0], free[1:]
		}
	}
	return places
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
