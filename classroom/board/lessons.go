package board

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"example.com/etcd-by-example/classroom/course"
)

//go:embed assets/lessons.html
var lessonsHTML string

var lessonsPage = template.Must(template.New("").Parse(lessonsHTML))

// formLimit is the size in bytes of the largest form that is taken.
const formLimit = 16 << 10

// lessons is the left side of the page: the course, and two terminals in which
// its lessons run.
type lessons struct {
	root string
	env  []string
	page sink
	css  []byte
	// note gets every line that lesson 08 prints. Set it before the first run.
	note func(line string)

	terminals []*terminal

	ctx  context.Context // ends with the board, and all runs with it
	end  context.CancelFunc
	mu   sync.Mutex // held to start a run, and to forbid any more
	runs sync.WaitGroup
}

// newLessons returns the lessons of the repository in root. They run with env,
// and show what they print on page.
func newLessons(root string, env []string, page sink) (*lessons, error) {
	css, err := course.CSS()
	if err != nil {
		return nil, fmt.Errorf("make the style sheet for code: %w", err)
	}
	l := &lessons{root: root, env: env, page: page, css: css}
	l.ctx, l.end = context.WithCancel(context.Background())
	for n := 1; n <= 2; n++ {
		l.terminals = append(l.terminals, &terminal{number: n, page: page, note: func(line string) {
			if l.note != nil {
				l.note(line)
			}
		}})
	}
	for _, name := range course.Names {
		if _, err := l.lessonHTML(name, false); err != nil {
			return nil, fmt.Errorf("lesson %s: %w", name, err)
		}
	}
	return l, nil
}

// register adds the routes of the lessons. change wraps those that change
// something.
func (l *lessons) register(mux *http.ServeMux, change func(http.Handler) http.Handler) {
	mux.HandleFunc("GET /lesson/{name}", l.serveLesson)
	mux.HandleFunc("GET /"+course.Pictures+"{name}", l.servePicture)
	mux.HandleFunc("GET /assets/code.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Write(l.css)
	})
	mux.Handle("POST /lesson/{name}/run", change(http.HandlerFunc(l.serveRun)))
	for action, do := range map[string]func(*terminal) error{
		"stop":   (*terminal).interrupt,
		"pause":  func(t *terminal) error { return t.pause(true) },
		"resume": func(t *terminal) error { return t.pause(false) },
	} {
		mux.Handle("POST /lesson/"+action, change(http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) { l.serveAction(w, r, do) })))
	}
}

// close ends all runs and waits for them.
func (l *lessons) close() {
	l.mu.Lock()
	l.end()
	l.mu.Unlock()
	l.runs.Wait()
}

// terminalView is what the page shows of a terminal when it is loaded.
type terminalView struct {
	Number        int
	Command       string
	State, Output template.HTML
}

// render returns the content of the lessons' part of the page, with the first
// lesson.
func (l *lessons) render(mayChange bool) template.HTML {
	first := course.Names[0]
	view := struct {
		Names     []string
		Current   string
		Lesson    template.HTML
		Terminals []terminalView
		MayChange bool
	}{course.Names, first, orError(l.lessonHTML(first, mayChange)), nil, mayChange}
	for _, t := range l.terminals {
		t.mu.Lock()
		view.Terminals = append(view.Terminals, terminalView{
			t.number, t.command, t.state, t.htmlOf(t.lines)})
		t.mu.Unlock()
	}
	return orError(execute("lessons", view))
}

// orError returns the error, as text, when there is one.
func orError(html template.HTML, err error) template.HTML {
	if err != nil {
		return template.HTML(template.HTMLEscapeString(err.Error()))
	}
	return html
}

// state gives a viewer who joins, or who has missed something, the terminals as
// they are. The viewer gets what the page gets before it is called, so that
// nothing falls between the two.
func (l *lessons) state(viewer sink) {
	for _, t := range l.terminals {
		t.mu.Lock()
		t.send()
		viewer.replace(t.id("command"), template.HTML(template.HTMLEscapeString(t.command)))
		viewer.replace(t.id("state"), t.state)
		viewer.replace(t.id("output"), t.htmlOf(t.lines))
		t.mu.Unlock()
	}
}

func execute(name string, view any) (template.HTML, error) {
	var page bytes.Buffer
	err := lessonsPage.ExecuteTemplate(&page, name, view)
	return template.HTML(page.String()), err
}

// lessonHTML returns what the page shows of one lesson, read anew.
func (l *lessons) lessonHTML(name string, mayChange bool) (template.HTML, error) {
	files, err := course.Files(l.root, name)
	if err != nil {
		return "", err
	}
	text, err := course.Text(l.root, name, files)
	if err != nil {
		return "", err
	}
	return execute("lesson", struct {
		Name      string
		Text      template.HTML
		Files     []course.File
		Flags     []course.Flag
		MayChange bool
	}{name, text, files, course.FindFlags(files).All, mayChange})
}

// serveLesson answers with one lesson. A page that cannot change anything asks
// for it with ?look.
func (l *lessons) serveLesson(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !known(w, name) {
		return
	}
	page, err := l.lessonHTML(name, !r.URL.Query().Has("look"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	io.WriteString(w, string(page))
}

func (l *lessons) servePicture(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	picture, err := course.Picture(l.root, name)
	if err != nil {
		http.Error(w, fmt.Sprintf("there is no picture %.50q that can be shown", name), http.StatusNotFound)
		return
	}
	servePicture(w, picture)
}

// known answers with an error when there is no such lesson.
func known(w http.ResponseWriter, name string) bool {
	if slices.Contains(course.Names, name) {
		return true
	}
	http.Error(w, fmt.Sprintf("there is no lesson %.50q; they are %s",
		name, strings.Join(course.Names, ", ")), http.StatusNotFound)
	return false
}

// terminal returns the terminal that the request names, or answers with an
// error and returns nil.
func (l *lessons) terminal(w http.ResponseWriter, r *http.Request) *terminal {
	for _, t := range l.terminals {
		if r.URL.Query().Get("slot") == strconv.Itoa(t.number) {
			return t
		}
	}
	http.Error(w, "slot must be 1 or 2, the number of a terminal", http.StatusBadRequest)
	return nil
}

func (l *lessons) serveAction(w http.ResponseWriter, r *http.Request, do func(*terminal) error) {
	t := l.terminal(w, r)
	if t == nil {
		return
	}
	switch err := do(t); {
	case errors.Is(err, errNothingRuns):
		http.Error(w, fmt.Sprintf("nothing runs in terminal %d", t.number), http.StatusConflict)
	case err != nil:
		http.Error(w, fmt.Sprintf("terminal %d: %v", t.number, err), http.StatusConflict)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// serveRun starts a lesson in a terminal.
func (l *lessons) serveRun(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !known(w, name) {
		return
	}
	t := l.terminal(w, r)
	if t == nil {
		return
	}
	files, err := course.Files(l.root, name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, formLimit)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the flags cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	args, err := course.FindFlags(files).Arguments(r.PostForm)
	if err != nil {
		http.Error(w, name+": "+err.Error(), http.StatusBadRequest)
		return
	}
	code, err := execute("code", files)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if err := l.start(t, name, args); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	// Whoever looks at the lesson sees the source that runs.
	l.page.replace("code-"+name, code)
	w.WriteHeader(http.StatusAccepted)
}

// start runs a lesson in a terminal, unless something runs there.
func (l *lessons) start(t *terminal, name string, args []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return errors.New("the board is about to end")
	}
	ctx, stop := context.WithCancel(l.ctx)
	if !t.begin(name, course.Command(name, args), stop) {
		stop()
		return fmt.Errorf("terminal %d is in use: stop what runs there first; "+
			"there are two, so two lessons can run at a time", t.number)
	}
	l.runs.Go(func() {
		defer stop()
		t.end(course.Run(ctx, course.Program{
			Root: l.root, Name: name, Args: args, Env: l.env,
			Stdout: printer{t, stdout}, Stderr: printer{t, stderr},
		}, t.running))
	})
	return nil
}
