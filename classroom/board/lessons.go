package board

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"example.com/etcd-by-example/classroom/lesson"
)

//go:embed assets/lessons.html
var lessonsHTML string

var lessonsPage = template.Must(template.New("").Parse(lessonsHTML))

// The largest file of a lesson that is shown, and the largest form and value of
// a flag that are taken.
const (
	sourceLimit = 1 << 20
	formLimit   = 16 << 10
	valueLimit  = 100
)

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
	building  chan struct{} // full while a lesson is built

	ctx  context.Context // ends with the board, and all runs with it
	end  context.CancelFunc
	mu   sync.Mutex // held to start a run, and to forbid any more
	runs sync.WaitGroup
}

// newLessons returns the lessons of the repository in root. They run with env,
// and show what they print on page.
func newLessons(root string, env []string, page sink) (*lessons, error) {
	css, err := codeCSS()
	if err != nil {
		return nil, fmt.Errorf("make the style sheet for code: %w", err)
	}
	l := &lessons{root: root, env: env, page: page, css: css, building: make(chan struct{}, 1)}
	l.ctx, l.end = context.WithCancel(context.Background())
	for n := 1; n <= 2; n++ {
		l.terminals = append(l.terminals, &terminal{number: n, page: page, note: func(line string) {
			if l.note != nil {
				l.note(line)
			}
		}})
	}
	for _, name := range lesson.Names {
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
	mux.HandleFunc("GET /"+pictures+"{name}", l.servePicture)
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
	current := lesson.Names[0]
	view := struct {
		Names     []string
		Current   string
		Lesson    template.HTML
		Terminals []terminalView
		MayChange bool
	}{Names: lesson.Names, Current: current, MayChange: mayChange}
	var err error
	if view.Lesson, err = l.lessonHTML(current, mayChange); err != nil {
		view.Lesson = template.HTML(template.HTMLEscapeString(err.Error()))
	}
	for _, t := range l.terminals {
		t.mu.Lock()
		view.Terminals = append(view.Terminals, terminalView{
			t.number, t.command, t.state, t.htmlOf(t.lines)})
		t.mu.Unlock()
	}
	return execute("lessons", view)
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

func execute(name string, view any) template.HTML {
	var page bytes.Buffer
	if err := lessonsPage.ExecuteTemplate(&page, name, view); err != nil {
		return template.HTML(template.HTMLEscapeString(err.Error()))
	}
	return template.HTML(page.String())
}

// flagView is what the page shows of a flag.
type flagView struct {
	Name, Kind, Value, Usage, Takes string
	Open                            bool // its default is chosen when the lesson runs
}

// lessonHTML returns what the page shows of one lesson, read anew.
func (l *lessons) lessonHTML(name string, mayChange bool) (template.HTML, error) {
	readme, err := read(filepath.Join(l.root, "README.md"))
	if err != nil {
		return "", err
	}
	files, err := l.files(name)
	if err != nil {
		return "", err
	}
	view := struct {
		Name       string
		Text, Code template.HTML
		Flags      []flagView
		MayChange  bool
	}{Name: name, MayChange: mayChange}
	if view.Text, err = lessonText(readme, name, files); err != nil {
		return "", err
	}
	if view.Code, err = lessonCode(name, files); err != nil {
		return "", err
	}
	flags := findFlags(files)
	for _, name := range flags.names {
		f := flags.set.Lookup(name)
		takes, usage := flag.UnquoteUsage(f)
		view.Flags = append(view.Flags, flagView{
			name, flags.kinds[name], f.DefValue, usage, takes, flags.open[name]})
	}
	return execute("lesson", view), nil
}

// sourceFile is a Go file of a lesson.
type sourceFile struct {
	name   string
	source []byte
}

// files returns the Go files that a lesson is built from: main.go, and then the
// others by their names.
func (l *lessons) files(name string) ([]sourceFile, error) {
	entries, err := os.ReadDir(filepath.Join(l.root, name))
	if err != nil {
		return nil, err
	}
	inside := []string{"main.go"}
	for _, entry := range entries {
		file := entry.Name()
		// Go leaves out names that begin so; they are those of editors.
		ignored := strings.HasPrefix(file, ".") || strings.HasPrefix(file, "_")
		if !entry.IsDir() && !ignored && file != "main.go" &&
			strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go") {
			inside = append(inside, file)
		}
	}
	var files []sourceFile
	for _, file := range inside {
		source, err := read(filepath.Join(l.root, name, file))
		if err != nil {
			return nil, err
		}
		files = append(files, sourceFile{file, source})
	}
	return files, nil
}

// codeID names the place of a lesson's file on the page.
func codeID(name, file string) string { return "code-" + name + "-" + file }

// lessonCode returns what the page shows of a lesson's files.
func lessonCode(name string, files []sourceFile) (template.HTML, error) {
	type fileView struct {
		ID, Name string
		Code     template.HTML
	}
	var view []fileView
	for _, f := range files {
		code, err := highlight(f.source, true)
		if err != nil {
			return "", err
		}
		view = append(view, fileView{codeID(name, f.name), name + "/" + f.name, code})
	}
	return execute("code", view), nil
}

// read returns the content of a file that is not too large to be shown.
func read(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, sourceLimit+1))
	if err == nil && len(content) > sourceLimit {
		err = fmt.Errorf("%s is larger than %d bytes", name, sourceLimit)
	}
	return content, err
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

// pictures is where the repository has the pictures of the lessons' text, and where
// the page has them.
const pictures = "docs/pictures/"

var pictureName = regexp.MustCompile(`^\w[-.\w]*\.svg$`)

// servePicture answers with a picture. One that is opened alone is a document, which
// could run scripts: its policy lets it have its own style and nothing else.
func (l *lessons) servePicture(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !pictureName.MatchString(name) {
		http.NotFound(w, r)
		return
	}
	picture, err := read(filepath.Join(l.root, filepath.FromSlash(pictures), name))
	if err != nil {
		http.Error(w, fmt.Sprintf("there is no picture %.50q that can be shown", name), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; "+
		"sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Write(picture)
}

// known answers with an error when there is no such lesson.
func known(w http.ResponseWriter, name string) bool {
	if slices.Contains(lesson.Names, name) {
		return true
	}
	http.Error(w, fmt.Sprintf("there is no lesson %.50q; they are %s",
		name, strings.Join(lesson.Names, ", ")), http.StatusNotFound)
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
	files, err := l.files(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, formLimit)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the flags cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	args, err := arguments(findFlags(files), r.PostForm)
	if err != nil {
		http.Error(w, name+": "+err.Error(), http.StatusBadRequest)
		return
	}
	code, err := lessonCode(name, files)
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
	if !t.begin(name, command(name, args), stop) {
		stop()
		return fmt.Errorf("terminal %d is in use: stop what runs there first; "+
			"there are two, so two lessons can run at a time", t.number)
	}
	l.runs.Go(func() {
		defer stop()
		l.run(ctx, t, name, args)
	})
	return nil
}

// arguments returns the command line for the values of a form. A flag that is
// empty, or that has its default, is left out.
func arguments(flags *lessonFlags, form map[string][]string) ([]string, error) {
	for name := range form {
		if !slices.Contains(flags.names, name) {
			return nil, fmt.Errorf("there is no flag %.50q", name)
		}
	}
	var args []string
	for _, name := range flags.names {
		values := form[name]
		if len(values) == 0 || len(values) == 1 && values[0] == "" {
			continue
		}
		value := values[0]
		if len(values) > 1 || len(value) > valueLimit || visible(value) != value {
			return nil, fmt.Errorf("-%s takes one value of at most %d bytes, of printable text",
				name, valueLimit)
		}
		f := flags.set.Lookup(name)
		if err := f.Value.Set(value); err != nil {
			return nil, fmt.Errorf("-%s: %q is no %s", name, value, flags.kinds[name])
		}
		switch set := f.Value.String(); {
		case set == f.DefValue && !flags.open[name]:
		case flags.kinds[name] != "bool":
			args = append(args, "-"+name, value)
		case set == "true":
			args = append(args, "-"+name)
		default:
			args = append(args, "-"+name+"=false")
		}
	}
	return args, nil
}

var plainArgument = regexp.MustCompile(`^[-=.:/\w]+$`)

// command returns what somebody would type at a terminal for the same run.
func command(name string, args []string) string {
	line := "go run ./" + name
	for _, arg := range args {
		if !plainArgument.MatchString(arg) {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		line += " " + arg
	}
	return line
}
