package board

import (
	"errors"
	"fmt"
	"go/doc/comment"
	"html/template"
	"io/fs"
	"net/http"
	"slices"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/workbook"
)

// exerciseView is one exercise in the list, and how far it has come.
type exerciseView struct {
	Name, Number string
	Mark, State  string
	Shown        bool
}

// roundView is one round of the last check.
type roundView struct{ Name, Mark, State string }

// exercises answers with the learner's exercises and one of them whole: the one that
// the path names, or the one that is worked on, or the next. The page asks for it again
// and again, so it shows what a check in a terminal has found.
func (b *Board) exercises(w http.ResponseWriter, r *http.Request) {
	states, err := b.book.States()
	if err != nil {
		http.Error(w, "the exercises cannot be read: "+err.Error(), http.StatusInternalServerError)
		return
	}
	shown := states.Current()
	if shown < 0 {
		shown = max(states.Next(), 0)
	}
	if name := r.PathValue("name"); name != "" {
		if shown = slices.IndexFunc(states, func(s workbook.State) bool { return s.Name == name }); shown < 0 {
			http.Error(w, fmt.Sprintf("there is no exercise %.50q", name), http.StatusNotFound)
			return
		}
	}
	var list []exerciseView
	for i, s := range states {
		list = append(list, exerciseView{s.Name, s.Name[:2], states.Mark(i), stateOf(s), i == shown})
	}
	e, is := check.Exercises[shown], states[shown]
	text, err := b.book.Task(e)
	if err != nil {
		http.Error(w, "the exercise cannot be read: "+err.Error(), http.StatusInternalServerError)
		return
	}
	task := (&comment.Printer{}).HTML(new(comment.Parser).Parse(text))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	templates.ExecuteTemplate(w, "exercises.html", map[string]any{
		"List":   list,
		"Passed": states.Passed(),
		"Shown":  list[shown],
		"Task":   template.HTML(task), // Whatever comes from the file is escaped there.
		"File":   workbook.File(e.Name),
		"Is":     is,
		"Rounds": roundsOf(e, is),
	})
}

// stateOf says how far an exercise has come.
func stateOf(s workbook.State) string {
	switch {
	case !s.Started:
		return "not started"
	case s.Passed:
		return "passed"
	case s.Last == nil:
		return "not checked yet"
	case s.Changed:
		return "changed since its last check"
	case s.Last.Reason == workbook.NotBuilt:
		return "does not compile"
	default:
		return "refused"
	}
}

// roundsOf returns the rounds of the last check, or none when none was played.
func roundsOf(e check.Exercise, s workbook.State) []roundView {
	if s.Last == nil || s.Last.Reason == workbook.NotBuilt {
		return nil
	}
	var rounds []roundView
	mark, state := "✓", "passed"
	for _, name := range e.Rounds() {
		if name == s.Last.Reason {
			mark, state = "✗", "refused"
		}
		rounds = append(rounds, roundView{name, mark, state})
		if state != "passed" {
			mark, state = "·", "not told"
		}
	}
	return rounds
}

// refusedPicture answers with what etcd did when the learner's copy was refused last.
func (b *Board) refusedPicture(w http.ResponseWriter, r *http.Request) {
	e, err := check.Find(r.PathValue("name"))
	if err != nil {
		http.Error(w, "there is no such exercise", http.StatusNotFound)
		return
	}
	ctx, done := b.read(w, r)
	if ctx == nil {
		return
	}
	defer done()
	picture, err := b.drawRefusal(e)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, e.Name+" was not refused", http.StatusNotFound)
	case err != nil:
		http.Error(w, "the history cannot be drawn: "+err.Error(), http.StatusInternalServerError)
	default:
		servePicture(w, picture)
	}
}

func (b *Board) drawRefusal(e check.Exercise) ([]byte, error) {
	record, err := b.book.Refused(e)
	if err != nil {
		return nil, err
	}
	drawn, err := drawing.New(record, drawing.Options{Title: "What etcd recorded when " + e.Name + " was refused"})
	if err != nil {
		return nil, err
	}
	return drawn.SVG()
}
