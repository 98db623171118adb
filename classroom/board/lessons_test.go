package board

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/course"
)

// recorder is a sink that keeps what the page would show.
type recorder struct {
	mu    sync.Mutex
	texts map[string]string
	calls int
}

func newRecorder() *recorder { return &recorder{texts: map[string]string{}} }

func (r *recorder) replace(id string, html template.HTML) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts[id] = string(html)
	r.calls++
}

func (r *recorder) append(id string, html template.HTML) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts[id] += string(html)
	r.calls++
}

func (r *recorder) text(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.texts[id]
}

// workspace makes a repository with the eight lessons' names, in which each
// lesson is the program given.
func workspace(t *testing.T, source string) string {
	t.Helper()
	root := t.TempDir()
	var readme, work strings.Builder
	work.WriteString("go 1.26.0\n")
	for _, name := range course.Names {
		fmt.Fprintf(&readme, "## %s\n\nWords.\n\n", name)
		fmt.Fprintf(&work, "use ./%s\n", name)
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, name, "go.mod"), "module example.com/"+name+"\n\ngo 1.26.0\n")
		write(t, filepath.Join(root, name, "main.go"), source)
	}
	write(t, filepath.Join(root, "README.md"), readme.String())
	write(t, filepath.Join(root, "go.work"), work.String())
	return root
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serveLessons returns the lessons of a repository, a server of their routes and
// the page.
func serveLessons(t *testing.T, root string) (*lessons, *httptest.Server, *recorder) {
	t.Helper()
	page := newRecorder()
	l, err := newLessons(root, os.Environ(), page)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	mux := http.NewServeMux()
	l.register(mux, func(h http.Handler) http.Handler { return h })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return l, server, page
}

// post returns the status and the text of the answer.
func post(t *testing.T, server *httptest.Server, path, form string) (int, string) {
	t.Helper()
	answer, err := http.Post(server.URL+path, "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// shows waits until an element of the page contains the words.
func shows(t *testing.T, page *recorder, id, words string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(page.text(id), words); {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not show %q; output:\n%.2000s\nstate: %s", id, words,
				page.text("terminal-1-output"), page.text("terminal-1-state"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// run runs lesson 01 in terminal 1 until it has ended.
func run(t *testing.T, server *httptest.Server, page *recorder) {
	t.Helper()
	if status, text := post(t, server, "/lesson/01-connect/run?slot=1", ""); status != http.StatusAccepted {
		t.Fatalf("status %d: %s", status, text)
	}
	shows(t, page, "terminal-1-state", `class="ended"`)
}

// TestEditedLesson runs a lesson, edits it and runs it again; then it breaks it.
func TestEditedLesson(t *testing.T) {
	t.Parallel()
	source := "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"first words\") }\n"
	root := workspace(t, source)
	_, server, page := serveLessons(t, root)
	run(t, server, page)
	shows(t, page, "terminal-1-output", ">first words<")
	shows(t, page, "terminal-1-state", "ended, status 0, ")

	write(t, filepath.Join(root, "01-connect", "main.go"),
		"package main\n\nimport \"os\"\n\nfunc main() { os.Stderr.WriteString(\"other words\\n\"); os.Exit(3) }\n")
	run(t, server, page)
	shows(t, page, "terminal-1-output", `<span class="which">err</span>`)
	shows(t, page, "terminal-1-output", ">other words<")
	shows(t, page, "terminal-1-state", "ended, status 3, ")
	shows(t, page, "code-01-connect", "other words")
	if strings.Contains(page.text("terminal-1-output"), "first words") {
		t.Error("the output of the first run is still there")
	}
	answer, err := http.Get(server.URL + "/lesson/01-connect")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if shown, err := io.ReadAll(answer.Body); err != nil || !bytes.Contains(shown, []byte("other words")) {
		t.Errorf("the page does not show the lesson as edited: %v", err)
	}

	write(t, filepath.Join(root, "01-connect", "main.go"), "package main\n\nfunc main() { undefined() }\n")
	run(t, server, page)
	shows(t, page, "terminal-1-state", "it does not build")
	shows(t, page, "terminal-1-output", "undefined: undefined")
}

// TestFiles shows and runs a lesson that has further files.
func TestFiles(t *testing.T) {
	root := workspace(t, "package main\n\nfunc main() { follow() }\n")
	folder := filepath.Join(root, "01-connect")
	write(t, filepath.Join(folder, "follow.go"), "package main\n\nimport (\n\t\"flag\"\n\t\"fmt\"\n)\n\n"+
		"func follow() {\n\tname := flag.String(\"name\", \"ann\", \"\")\n\tflag.Parse()\n\tfmt.Println(*name, \"follows\")\n}\n")
	write(t, filepath.Join(folder, "again.go"), "package main\n\n// <again>\n")
	_, server, page := serveLessons(t, root)
	_, shown := get(t, server.URL+"/lesson/01-connect")
	code := regexp.MustCompile(`<div id="code-01-connect-([^"]*)"><h2>01-connect/([^<]*)</h2>`)
	check := func(where string) {
		t.Helper()
		var names []string
		for _, found := range code.FindAllStringSubmatch(where, -1) {
			if found[1] != found[2] {
				t.Errorf("%s is at the place of %s", found[2], found[1])
			}
			names = append(names, found[1])
		}
		if !slices.Equal(names, []string{"main.go", "again.go", "follow.go"}) {
			t.Errorf("the files are %v", names)
		}
		for words, count := range map[string]int{"&lt;again&gt;": 1, `<span class="ln">`: 18} {
			if got := strings.Count(where, words); got != count {
				t.Errorf("%q is there %d times, want %d:\n%s", words, got, count, where)
			}
		}
	}
	check(shown)
	if !strings.Contains(shown, `name="name"`) {
		t.Error("the flag of the second file is missing")
	}
	if status, text := post(t, server, "/lesson/01-connect/run?slot=1", "name=bob"); status != http.StatusAccepted {
		t.Fatalf("status %d: %s", status, text)
	}
	shows(t, page, "terminal-1-output", ">bob follows<")
	check(page.text("code-01-connect"))
	if !strings.Contains(shown, `<div id="code-01-connect">`+page.text("code-01-connect")+"</div>") {
		t.Error("the code that comes with a run is not that of the page")
	}

	write(t, filepath.Join(folder, "again.go"), "package main\n//"+strings.Repeat("a", course.FileLimit))
	if status, text := get(t, server.URL+"/lesson/01-connect"); status != 500 || !strings.Contains(text, "is larger than") {
		t.Errorf("a file that is too large: status %d: %.200s", status, text)
	}
}

// TestPictures asks for pictures of the text, as those who may only look do, too.
func TestPictures(t *testing.T) {
	root := workspace(t, "package main\n")
	folder := filepath.Join(root, "docs", "pictures")
	if err := os.MkdirAll(filepath.Join(folder, "folder.svg"), 0o700); err != nil {
		t.Fatal(err)
	}
	const picture = `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	write(t, filepath.Join(folder, "a-b_1.svg"), picture)
	write(t, filepath.Join(folder, "large.svg"), strings.Repeat(" ", course.FileLimit+1))
	write(t, filepath.Join(folder, "notes.txt"), "secret")
	write(t, filepath.Join(folder, ".svg"), "secret")
	write(t, filepath.Join(root, "docs", "outside.svg"), "secret")
	b, err := Start(t.Context(), Config{Etcd: &clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()},
		Root: root, Address: "127.0.0.1:0", Public: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, address := range []string{b.Address(), b.Public()} {
		answer, err := http.Get("http://" + address + "/docs/pictures/a-b_1.svg")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK || string(body) != picture {
			t.Errorf("%s: %s, %v: %s", address, answer.Status, err, body)
		}
		for name, want := range map[string]string{
			"Content-Type": "image/svg+xml", "X-Content-Type-Options": "nosniff",
			"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox; " +
				"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		} {
			if got := answer.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s is %q, want %q", address, name, got, want)
			}
		}
		for _, path := range []string{
			"none.svg", "large.svg", "folder.svg", "notes.txt", ".svg", "a-b_1.svg/", "..%2foutside.svg", "../outside.svg",
			"%2e%2e/outside.svg", "..%5coutside.svg", "a-b_1.svg%00", "x%2f..%2fa-b_1.svg", "",
		} {
			status, text := get(t, "http://"+address+"/docs/pictures/"+path)
			if status != http.StatusNotFound || strings.Contains(text, "secret") || strings.Contains(text, root) {
				t.Errorf("%s: status %d: %.100s", path, status, text)
			}
		}
	}
}

// TestHostileOutput runs a lesson that prints what a terminal or a browser would
// act on, and too much of everything.
func TestHostileOutput(t *testing.T) {
	t.Parallel()
	root := workspace(t, `package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	fmt.Println("<script>alert(1)</script>\x1b[31m\xff\u202e\x00\ta")
	fmt.Println()
	os.Stdout.Write([]byte("\xe2\x82"))
	time.Sleep(200 * time.Millisecond)
	os.Stdout.Write([]byte("\xac half\r\n"))
	fmt.Println(strings.Repeat("é", 5000))
	for i := range 100000 {
		fmt.Println("line", i)
	}
	fmt.Print("no end of line")
}
`)
	_, server, page := serveLessons(t, root)
	run(t, server, page)
	output := page.text("terminal-1-output")
	lines := regexp.MustCompile(`<div class="line [a-z]+" id="[^"]*">`).FindAllString(output, -1)
	if len(lines) != lineLimit+1 || !strings.Contains(output, "no more of its output is shown") {
		t.Errorf("%d lines, want %d and a note", len(lines), lineLimit+1)
	}
	for _, want := range []string{
		"&lt;script&gt;", `␛[31m\xff⟨U+202E⟩␀` + "\ta<",
		">" + strings.Repeat("é", cutLimit) + ` <span class="note">… cut`,
	} {
		if !strings.Contains(output, want) {
			t.Errorf("no %.60q in\n%.600s", want, output)
		}
	}
	if strings.ContainsAny(output, "\x1b\x00\u202e") || strings.Contains(output, "<script") {
		t.Errorf("it is not text:\n%.600s", output)
	}
	if !strings.Contains(output, `id="terminal-1-1-2"><span id="terminal-1-1-2-text"></span>`) {
		t.Error("the empty line is missing")
	}
	if half := page.text("terminal-1-1-3-text"); half != "€ half" {
		t.Errorf("a character that came in two parts: %q", half)
	}
}

// TestTerminalKeepsToItsLimits prints long lines until their sum is too much.
func TestTerminalKeepsToItsLimits(t *testing.T) {
	page := newRecorder()
	terminal := &terminal{number: 1, page: page}
	terminal.begin("01-connect", "go run", func() {})
	long := append(bytes.Repeat([]byte("a"), 2*cutLimit), '\n')
	for range lineLimit {
		if n, err := (printer{terminal, stdout}).Write(long); n != len(long) || err != nil {
			t.Fatal(n, err)
		}
	}
	terminal.end("ended")
	if size := len(page.text("terminal-1-output")); size > 2*textLimit {
		t.Errorf("%d bytes of output, want at most %d", size, 2*textLimit)
	}
	if !strings.Contains(page.text("terminal-1-output"), "no more of its output") {
		t.Error("nothing says that there is more")
	}
}

// TestTerminalBatches prints in small pieces. A character of which only the
// first bytes have come is not shown yet.
func TestTerminalBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := newRecorder()
		terminal := &terminal{number: 1, page: page}
		terminal.begin("01-connect", "go run", func() {})
		for began := time.Now(); time.Since(began) < time.Second/2; time.Sleep(time.Millisecond) {
			printer{terminal, stdout}.Write([]byte("a"))
		}
		printer{terminal, stdout}.Write([]byte("\xe2\x82"))
		time.Sleep(time.Second / 5)
		if got := page.text("terminal-1-1-1-text"); got == "" || strings.Trim(got, "a") != "" {
			t.Errorf("shown: %q", got)
		}
		if page.calls > 20 {
			t.Errorf("%d changes of the page in half a second", page.calls)
		}
		terminal.end("ended")
		if got := page.text("terminal-1-1-1-text"); !strings.HasSuffix(got, `a\xe2\x82`) {
			t.Errorf("shown at the end: %q", got)
		}
	})
}

// TestNote checks that what lesson 08 prints, and nothing else, is handed on.
func TestNote(t *testing.T) {
	var noted []string
	terminal := &terminal{number: 1, page: newRecorder(), note: func(s string) { noted = append(noted, s) }}
	for _, name := range []string{"05-lease", "08-txn-lock"} {
		terminal.begin(name, "go run", func() {})
		printer{terminal, stderr}.Write([]byte("put x: token"))
		printer{terminal, stdout}.Write([]byte("other\n"))
		printer{terminal, stderr}.Write([]byte(" 3 is stale\nlast"))
		terminal.end("ended")
	}
	if want := []string{"other", "put x: token 3 is stale", "last"}; !slices.Equal(noted, want) {
		t.Errorf("noted %q, want %q", noted, want)
	}
}

// TestStateForViewer compares what a viewer is given who joins late.
func TestStateForViewer(t *testing.T) {
	page, late := newRecorder(), newRecorder()
	l, err := newLessons(workspace(t, "package main\n"), nil, page)
	if err != nil {
		t.Fatal(err)
	}
	first := l.terminals[0]
	first.begin("01-connect", "go run", func() {})
	printer{first, stdout}.Write([]byte("one\ntw"))
	l.state(late)
	printer{first, stdout}.Write([]byte("o\nthree\n"))
	first.end("ended")
	html := page.text("terminal-1-output")
	for _, words := range []string{">one<", ">tw<", ">three<"} {
		if strings.Count(html, words) != 1 {
			t.Errorf("%q is not there once:\n%s", words, html)
		}
	}
	if got := page.text("terminal-1-1-2-text"); got != "two" {
		t.Errorf("the line that grew is %q", got)
	}
	if got := late.text("terminal-1-output"); !strings.Contains(got, ">tw<") || strings.Contains(got, "three") {
		t.Errorf("who joins sees\n%s", got)
	}
	if got := l.render(false); !strings.Contains(string(got), ">three<") ||
		strings.Contains(string(got), `data-do=`) || strings.Contains(string(got), "style=") {
		t.Errorf("the page of one who may only look:\n%s", got)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	l, server, page := serveLessons(t, workspace(t, "package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(time.Minute) }\n"))
	for _, c := range []struct {
		path, form string
		status     int
		words      string
	}{
		{"/lesson/09-none/run?slot=1", "", 404, "they are 01-connect"},
		{"/lesson/..%2fclassroom/run?slot=1", "", 404, "there is no lesson"},
		{"/lesson/01-connect/run", "", 400, "slot must be 1 or 2"},
		{"/lesson/01-connect/run?slot=3", "", 400, "slot must be 1 or 2"},
		{"/lesson/01-connect/run?slot=1", "toolexec=rm", 400, `no flag "toolexec"`},
		{"/lesson/01-connect/run?slot=1", "a=%zz", 400, "cannot be read"},
		{"/lesson/01-connect/run?slot=1", "a=" + strings.Repeat("b", formLimit), 400, "too large"},
		{"/lesson/stop?slot=1", "", 409, "nothing runs in terminal 1"},
		{"/lesson/pause?slot=2", "", 409, "nothing runs in terminal 2"},
		{"/lesson/stop?slot=x", "", 400, "slot must be"},
	} {
		if status, text := post(t, server, c.path, c.form); status != c.status || !strings.Contains(text, c.words) {
			t.Errorf("%s: status %d, want %d with %q:\n%s", c.path, status, c.status, c.words, text)
		}
	}
	if answer, err := http.Get(server.URL + "/lesson/01-connect/run?slot=1"); err != nil || answer.StatusCode != 405 {
		t.Errorf("GET instead of POST: %v, %v", answer, err)
	}
	for slot, want := range map[string]int{"1": 202, "2": 202} {
		if status, text := post(t, server, "/lesson/01-connect/run?slot="+slot, ""); status != want {
			t.Errorf("slot %s: status %d: %s", slot, status, text)
		}
	}
	if status, text := post(t, server, "/lesson/02-put/run?slot=2", ""); status != 409 || !strings.Contains(text, "terminal 2 is in use") {
		t.Errorf("a third run: status %d: %s", status, text)
	}
	shows(t, page, "terminal-2-state", "running")
	l.close()
	if status, text := post(t, server, "/lesson/02-put/run?slot=2", ""); status != 409 || !strings.Contains(text, "about to end") {
		t.Errorf("a run at the end: status %d: %s", status, text)
	}
	for _, id := range []string{"terminal-1-state", "terminal-2-state"} {
		if !strings.Contains(page.text(id), "stopped") {
			t.Errorf("after the end %s shows %s", id, page.text(id))
		}
	}
}
