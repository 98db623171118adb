package drawing

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"example.com/etcd-by-example/classroom/history"
)

// frame is where things are. Alone, a drawing has the names of the lanes above them,
// which leaves the columns room for values. In a page they are beside them.
type frame struct {
	middles     []int // of the columns
	column      int   // how wide they are, at least
	left, right int   // where lanes begin and end
	width       int
	axis, top   int // the base line of the numbers, and where lanes begin
	label, band int // down from the top of a lane
	thick, lane int // the height of a band, and of a lane with its band
}

const (
	margin     = 24
	cell       = 9  // how wide a character is at most, monospaced
	letter     = 10 // the same, of other text
	capital    = 12 // of the title
	labelWidth = 262

	// How much is free between a mark and the text after it, and before the next one.
	textLeft, textRight = 14, 16
)

type view struct {
	Interactive       bool
	Packed            bool
	Title, Desc       string
	Style             template.CSS
	Width, Height     int
	First, Last, Mark int64
	Left, Right       int // where the columns begin, and lanes end
	Column            int // how wide columns are
	Top, Bottom, Tall int // of the columns
	Before, MarkX     int
	Head              int // the height of a page's axis, which stays when the lanes scroll
	Axis, AxisY       int // the numbers' base line, and the line below them
	ShortTitle        string
	Legend            []legendView
	Ticks             []tickView
	Lanes             []laneView
	Bands             []bandView
	Links             []linkView
	Texts             []textView
	Columns           []columnView
	Ends              []markView // of leases
	Notes             []noteView
}

type legendView struct {
	X, Y int
	Kind Kind // none for a revision of several keys
	Text string
}

type tickView struct {
	X        int
	Revision int64
}

type laneView struct {
	LabelX, LabelY, Y int
	Label, Key        string
}

// bandView is a time in which something lasted. Its edge is open where it lasted
// beyond the window.
type bandView struct {
	Class               string
	X, Y, Width, Height int
	Edge, About         string
}

// noteView is what was done between two revisions. Alone, a drawing tells it below.
type noteView struct {
	X, Number int
	About     string
	Lines     []textView
}

type linkView struct{ X, From, To int }

type textView struct {
	X, Y              int
	Class, Bold, Text string
}

// columnView is what one revision did.
type columnView struct {
	Revision    int64
	X, Center   int
	Top, Bottom int // of the line that joins its marks
	Joined      bool
	Label       string
	Marks       []markView
	Focus       bool
}

type markView struct {
	X, Y int
	Kind Kind
}

// layOut says where each part of a window is.
func layOut(w *window, o Options) view {
	f := newFrame(w, o)
	v := view{Interactive: o.Interactive, Packed: o.Packed, First: w.from, Last: w.to, Mark: o.Mark, Width: f.width,
		Left: f.left, Right: f.right, Column: f.column}
	if !o.Interactive {
		v.Style = template.CSS(style)
		if len(w.notes) > 0 {
			v.Style += template.CSS(notesStyle)
		}
		v.Legend = w.legend(f)
		shift := -30 // without a legend
		if count := len(v.Legend); count > 0 {
			shift = v.Legend[count-1].Y - 66
		}
		f.axis, f.top = f.axis+shift, f.top+shift
	}
	v.Axis, v.AxisY = f.axis, f.axis+10
	v.Ticks = f.ticks(w)

	keys, others := w.laneKeys(o.Lanes)
	place := map[string]int{}
	for i, key := range keys {
		place[key] = i
		v.Lanes = append(v.Lanes, f.laneView(i, key))
		v.drawKey(w, f, i, key, o)
	}
	lanes := len(keys)
	if others {
		v.Lanes = append(v.Lanes, f.laneView(lanes, "other keys"))
		lanes++
	}
	ends := v.drawColumns(w, f, place, len(keys))
	rows := v.drawLeases(w, f, lanes, ends)
	v.Top = f.axis + 12
	v.Bottom = f.top + (lanes+rows)*f.lane
	if lanes == 0 {
		v.Texts = append(v.Texts, textView{X: f.left, Y: f.top + 22, Class: "note", Text: w.nothing()})
		v.Bottom = f.top + 30
	}
	v.Height = v.Bottom + 16
	v.drawNotes(w, f)
	v.Tall = v.Bottom - v.Top
	v.Head = f.top
	if w.known >= w.from && len(v.Lanes) > 0 {
		v.Before = f.x(w, w.known) + f.column/2 - f.left
	}
	if o.Mark >= w.from && o.Mark <= w.to {
		v.MarkX = f.x(w, o.Mark) - f.column/2
	}
	v.Title = cmp.Or(o.Title, fmt.Sprintf("What etcd did, revisions %d to %d", w.from, w.to))
	v.ShortTitle = start(v.Title, (f.width-2*margin)/capital)
	v.Title = start(v.Title, longest)
	v.Desc = v.describe(w)
	return v
}

func newFrame(w *window, o Options) frame {
	count := w.columns()
	if o.Interactive {
		count = max(count, o.Columns)
		f := frame{column: 18, left: labelWidth, right: labelWidth + count*18, width: labelWidth + count*18 + 16,
			axis: 22, top: 34, band: 3, thick: 22, lane: 28}
		f.place(labelWidth+9, make([]int, count))
		return f
	}
	f := frame{left: margin, width: 700, axis: 108, top: 124, label: 18, band: 25, thick: 28, lane: 62}
	// At the right there is room for a value, under the word "revision".
	need := w.need(o)
	room := max(140, need[count-1]) + margin
	const first, widest, narrow, narrowest = margin + 14, 110, 64, 18
	fits := func(need []int, least int) bool {
		for f.column = widest; f.column >= least; f.column-- {
			if f.place(first, need)+room <= f.width {
				return true
			}
		}
		return false
	}
	// Rather than make the others narrow, a value is cut.
	if even := make([]int, count); !fits(need, narrow) && !fits(even, narrowest) {
		f.column = narrowest
		f.width = f.place(first, even) + room
	}
	f.right = f.width - margin
	return f
}

// place sets the middle of each column: the first one, and then each as far from the
// one before it as that needs, or as columns are wide. It returns the last one.
func (f *frame) place(first int, need []int) int {
	f.middles = make([]int, len(need))
	x := first
	for i := range need {
		f.middles[i] = x
		x += max(f.column, need[i])
	}
	return f.middles[len(need)-1]
}

// need returns how wide each column must be so that no value is cut in it, within
// reason.
func (w *window) need(o Options) []int {
	need := make([]int, w.columns())
	next := map[string]int64{} // where each key changes next
	for _, c := range slices.Backward(w.changes) {
		after, found := next[c.Key]
		next[c.Key] = c.Revision
		if c.After == nil || found && after > c.Revision+1 || !found && c.Revision < w.to {
			continue // It has more than its own column.
		}
		text := c.After.Value
		if o.isLock(c.After) {
			text += fmt.Sprint(", token ", c.After.Create)
		}
		cells := 0
		for _, r := range start(text, 20) {
			cells += width(r)
		}
		column := w.column(c.Revision)
		need[column] = max(need[column], textLeft+cells*cell+textRight)
	}
	return need
}

// x returns the middle of a revision's column.
func (f frame) x(w *window, revision int64) int { return f.middles[w.column(revision)] }

// y returns the middle of a lane's band.
func (f frame) y(lane int) int { return f.top + lane*f.lane + f.band + f.thick/2 }

// step returns of how many revisions one has its number at the axis.
func (f frame) step(last int64) int64 {
	need := letter*len(fmt.Sprint(last)) + 8
	for step := int64(1); ; step *= 10 {
		for _, times := range []int64{1, 2, 5} {
			if int(step*times)*f.column >= need {
				return step * times
			}
		}
	}
}

// ticks are the numbers at the axis.
func (f frame) ticks(w *window) (ticks []tickView) {
	step := f.step(w.to)
	if w.packed != nil {
		for i := int64(0); i < int64(len(w.packed)); i += step {
			ticks = append(ticks, tickView{f.middles[i], w.packed[i]})
		}
		return ticks
	}
	for revision := (w.from + step - 1) / step * step; revision <= w.to; revision += step {
		ticks = append(ticks, tickView{f.x(w, revision), revision})
	}
	return ticks
}

func (f frame) laneView(lane int, key string) laneView {
	v := laneView{LabelX: f.left, LabelY: f.top + lane*f.lane + f.label, Y: f.y(lane), Key: start(key, longest)}
	if f.label > 0 {
		v.Label = ending(key, (f.right-f.left)/cell)
	} else {
		// The page has larger type.
		v.LabelX, v.LabelY, v.Label = 4, v.Y, ending(key, 22)
	}
	return v
}

// value is what a key was, from the middle of one column to that of another.
type value struct {
	*history.KeyValue
	from, to int
}

// drawKey draws for how long a key was there, and its values.
func (v *view) drawKey(w *window, f frame, lane int, key string, o Options) {
	var values []value
	var is *history.KeyValue
	from := 0
	for _, c := range w.changes {
		if c.Key != key {
			continue
		}
		at := f.x(w, c.Revision)
		if from == 0 {
			is, from = c.Before, f.left
		}
		if is != nil {
			values = append(values, value{is, from, at})
		}
		is, from = c.After, at
	}
	if is != nil {
		values = append(values, value{is, from, f.right})
	}
	for i := 0; i < len(values); {
		one := values[i]
		class, about := "life", fmt.Sprintf("created at revision %d", one.Create)
		if o.isLock(one.KeyValue) {
			class, about = "lock", fmt.Sprintf("%s has the lock, token %d", start(one.Value, 60), one.Create)
		}
		to := one.to
		for ; i < len(values) && values[i].Create == one.Create; i++ {
			to = values[i].to
			v.Texts = append(v.Texts, f.text(values[i], lane, class)...)
		}
		v.Bands = append(v.Bands, f.bandView(class, one.from, to, f.y(lane), about))
	}
}

// text returns what stands in a band while the key had a value, if there is room.
func (f frame) text(one value, lane int, class string) []textView {
	t := textView{X: one.from + textLeft, Y: f.y(lane) + 5, Class: class}
	if one.from == f.left {
		t.X = one.from + 6
	}
	room := one.to - textRight - t.X
	all := one.Value
	if one.Size > len(all) {
		all += "…"
	}
	switch token := fmt.Sprint("token ", one.Create); {
	case class != "lock" && all == "" && room >= 5*letter:
		t.Class, t.Text = "note", "empty"
	case class != "lock":
		t.Text = start(all, room/cell)
	case all == "" && room >= cell*len(token):
		t.Text = token
	default:
		if t.Bold = start(all, room/cell-len(", "+token)); t.Bold != "" {
			t.Text = ", " + token
		} else {
			t.Bold = start(all, room/cell)
		}
	}
	if t.Bold+t.Text == "" {
		return nil
	}
	return []textView{t}
}

// bandView returns a band from one place to another, with an edge that is open where
// it goes on beyond the window.
func (f frame) bandView(class string, from, to, y int, about string) bandView {
	top, bottom := y-f.thick/2, y+f.thick/2
	b := bandView{Class: class, X: from, Y: top, Width: to - from, Height: f.thick, About: about}
	switch {
	case from > f.left && to < f.right:
		b.Edge = fmt.Sprintf("M%d %dH%dV%dH%dZ", from, top, to, bottom, from)
	case from > f.left:
		b.Edge = fmt.Sprintf("M%d %dH%dV%dH%d", to, top, from, bottom, to)
	case to < f.right:
		b.Edge = fmt.Sprintf("M%d %dH%dV%dH%d", from, top, to, bottom, from)
	default:
		b.Edge = fmt.Sprintf("M%d %dH%dM%d %dH%d", from, top, to, from, bottom, to)
	}
	return b
}

// drawColumns draws what each revision did. The keys that have no place share the lane
// others. It returns where the lowest mark of each column is.
func (v *view) drawColumns(w *window, f frame, place map[string]int, others int) (lowest map[int64]int) {
	lowest = map[int64]int{}
	for i := 0; i < len(w.changes); {
		revision := w.changes[i].Revision
		x := f.x(w, revision)
		column := columnView{Revision: revision, X: x - f.column/2, Center: x, Top: f.y(others)}
		label := fmt.Sprintf("Revision %d", revision)
		drawn := map[markView]bool{}
		for count := 0; i < len(w.changes) && w.changes[i].Revision == revision; i++ {
			c := w.changes[i]
			lane, found := place[c.Key]
			if !found {
				lane = others
			}
			mark := markView{x, f.y(lane), KindOf(c)}
			if !drawn[mark] {
				drawn[mark] = true
				column.Marks = append(column.Marks, mark)
			}
			column.Top, column.Bottom = min(column.Top, mark.Y), max(column.Bottom, mark.Y)
			switch count++; {
			case count <= 5:
				label += fmt.Sprintf(", %s %s", mark.Kind.Words(), start(c.Key, 60))
			case count == 6:
				label += " and more"
			}
		}
		column.Joined = column.Bottom > column.Top
		column.Label = label
		lowest[revision] = column.Bottom
		v.Columns = append(v.Columns, column)
	}
	// The Tab key finds the chosen revision, or the last one before it.
	focus := len(v.Columns) - 1
	for focus > 0 && v.Mark > 0 && v.Columns[focus].Revision > v.Mark {
		focus--
	}
	if focus >= 0 {
		v.Columns[focus].Focus = true
	}
	return lowest
}

// leaseRows is how many rows there are for leases at most: bars share them.
const leaseRows = 8

// drawLeases draws the leases below the lanes, and returns how many rows they take.
func (v *view) drawLeases(w *window, f frame, lanes int, lowest map[int64]int) int {
	var free []int // where each row is free again
	left := 0
	for _, b := range w.bars {
		from, to := f.x(w, b.from), f.x(w, b.to)
		if b.fromLeft {
			from = f.left
		}
		if b.toRight {
			to = f.right
		}
		row := slices.IndexFunc(free, func(x int) bool { return x < from })
		if row < 0 && len(free) == leaseRows {
			left++
			continue
		}
		if row < 0 {
			row, free = len(free), append(free, 0)
		}
		free[row] = to
		y := f.y(lanes + row)
		about := b.name
		if b.ending != history.Alive {
			about += ", " + string(b.ending)
			v.Ends = append(v.Ends, markView{to, y, Kind(b.ending)})
		}
		v.Bands = append(v.Bands, f.bandView("lease", from, to, y, about))
		for _, name := range []string{about, b.name, strings.TrimPrefix(b.name, "lease ")} {
			if start(name, (to-from-22)/letter) == name {
				v.Texts = append(v.Texts, textView{X: from + 10, Y: y + 5, Class: "lease", Text: name})
				break
			}
		}
		if !b.fromLeft {
			v.Links = append(v.Links, linkView{from, lowest[b.from], y - f.thick/2})
		}
		if b.ending != history.Alive {
			v.Links = append(v.Links, linkView{to, lowest[b.to], y - f.thick/2})
		}
	}
	for row := range free {
		label := f.laneView(lanes+row, "leases")
		if row > 0 {
			label.Label = ""
		}
		if left > 0 && row == leaseRows-1 {
			label.Label = fmt.Sprintf("and %d leases more", left)
		}
		v.Lanes = append(v.Lanes, label)
	}
	return len(free)
}

// drawNotes draws the notes, between the revisions that they were made between.
func (v *view) drawNotes(w *window, f frame) {
	for i, n := range w.notes {
		note := noteView{X: f.left, Number: i + 1, About: start(n.Text, longest)}
		if n.Revision >= w.from {
			note.X = f.x(w, n.Revision) + f.column/2
		}
		if n.Revision >= w.from && n.Revision < w.to {
			note.X = (f.x(w, n.Revision) + f.x(w, n.Revision+1)) / 2
		}
		if i > 0 && v.Notes[i-1].X >= note.X {
			note.X = v.Notes[i-1].X + 2*letter
		}
		if !v.Interactive {
			// Its number stands below its line.
			if i == 0 {
				v.Height += 26
			}
			for _, text := range Lines(n.Text, (f.width-2*margin-40)/letter) {
				note.Lines = append(note.Lines, textView{X: margin + 40, Y: v.Height + 10, Text: text})
				v.Height += 22
			}
			if i == len(w.notes)-1 {
				v.Height += 12
			}
		}
		v.Notes = append(v.Notes, note)
	}
}

// legend returns what the marks mean that are in the drawing. The last one is lowest.
func (w *window) legend(f frame) []legendView {
	seen := map[Kind]bool{}
	several := false
	for i, c := range w.changes {
		seen[KindOf(c)] = true
		several = several || i > 0 && w.changes[i-1].Revision == c.Revision
	}
	var legend []legendView
	x, y := margin+8, 66
	add := func(kind Kind, text string) {
		long := 16 + 9*len(text)
		if x+long > f.right && x > margin+8 {
			x, y = margin+8, y+26
		}
		legend = append(legend, legendView{x, y, kind, text})
		x += long + 20
	}
	for _, k := range kinds {
		if seen[k.kind] {
			add(k.kind, k.short)
		}
	}
	if several {
		add("", "several keys, one revision")
	}
	return legend
}

// nothing says that the window has no changes.
func (w *window) nothing() string {
	if w.known >= w.to {
		return fmt.Sprintf("Nothing was written: the store is still at revision %d. A read makes no revision.", w.to)
	}
	return "No key changed that is shown here."
}

// describe tells the drawing in words.
func (v *view) describe(w *window) string {
	var words []string
	if len(w.changes) == 0 {
		words = append(words, w.nothing())
	}
	for i, c := range v.Columns {
		if i == 20 {
			words = append(words, fmt.Sprintf("And so on, up to revision %d.", w.to))
			break
		}
		words = append(words, c.Label+".")
	}
	for i, b := range v.Bands {
		if i == 40 {
			break
		}
		if b.Class != "life" {
			words = append(words, b.About+".")
		}
	}
	return strings.Join(words, " ")
}

// Inner and InnerHeight are the size of the panel, within its stroke.
func (v view) Inner() int       { return v.Width - 2 }
func (v view) InnerHeight() int { return v.Height - 2 }

// NotesY is where the numbers of the notes stand.
func (v view) NotesY() int { return v.Bottom + 18 }

// Under is the height of what is under a page's axis.
func (v view) Under() int { return v.Height - v.Head }

// Tip, TipTop and TipBottom are the ends of the axis's arrow.
func (v view) Tip() int       { return v.Right - 8 }
func (v view) TipTop() int    { return v.AxisY - 5 }
func (v view) TipBottom() int { return v.AxisY + 5 }
