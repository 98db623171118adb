package board

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/lesson"
)

const repository = "../.."

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
	for _, name := range lesson.Names {
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

// part is what stands between a heading of README.md and the next one.
type part struct {
	level       int
	title, text string
}

// parts cuts a page at its headings, which are outside of code.
func parts(readme string) []part {
	all := []part{{}}
	code := false
	heading := regexp.MustCompile(`^(#{1,6}) (.*)\n`)
	for line := range strings.Lines(readme) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
		}
		if found := heading.FindStringSubmatch(line); found != nil && !code {
			all = append(all, part{level: len(found[1]), title: found[2]})
		} else {
			all[len(all)-1].text += line
		}
	}
	return all
}

// TestLessonText compares what is shown of each lesson with what README.md has of
// it, whatever that says.
func TestLessonText(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	l := &lessons{root: repository}
	for _, name := range lesson.Names {
		files, err := l.files(name)
		if err != nil {
			t.Fatal(err)
		}
		page, err := lessonText(readme, name, files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		html := string(page)
		var titles []string
		written := ""
		section, wanted := "", false
		for _, p := range parts(string(readme)) {
			if p.level <= 2 {
				section = p.title
			}
			if p.level <= 3 {
				wanted = section == name || p.level == 3 && strings.HasPrefix(p.title, "Break "+name[:2])
			}
			if wanted {
				titles = append(titles, template.HTMLEscapeString(p.title))
				written += "\n" + p.text
			}
		}
		var shown []string
		for _, found := range regexp.MustCompile(`<h\d id="[^"]+">(.*)</h\d>`).FindAllStringSubmatch(html, -1) {
			shown = append(shown, regexp.MustCompile(`<[^>]*>`).ReplaceAllString(found[1], ""))
		}
		if !slices.Equal(shown, titles) || titles[0] != name {
			t.Errorf("%s: the headings are\n%q\nwant\n%q", name, shown, titles)
		}
		for markdown, markup := range map[string]string{
			"(?m)^ *```console$": `<pre class="console"`, "(?m)^ *```go$": `<pre class="chroma">`,
			"(?m)^<details>$": "<details>", "(?m)^</details>$": "</details>",
			`!\[[^]]*\]\(` + pictures: `<img src="/` + pictures, `(?m)^\|[-:| ]+\|$`: "<table>",
		} {
			want := len(regexp.MustCompile(markdown).FindAllString(written, -1))
			if got := strings.Count(html, markup); got != want {
				t.Errorf("%s: %d of %q, want %d of %q", name, got, markup, want, markdown)
			}
		}
		if at := strings.Index(html, "<pre>&lt;"); at >= 0 {
			t.Errorf("%s: HTML that the board does not know: %.100s", name, html[at:])
		}
		for _, link := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(html, -1) {
			id, inside := strings.CutPrefix(link[1], "#")
			isFile := slices.ContainsFunc(files, func(f sourceFile) bool { return codeID(name, f.name) == id })
			if inside && !isFile && !strings.Contains(html, `id="`+id+`"`) ||
				!inside && !strings.HasPrefix(link[1], "https://") {
				t.Errorf("%s: a link to %s, which is not on the page", name, link[1])
			}
		}
		for _, picture := range regexp.MustCompile(`<img src="/([^"]*)"`).FindAllStringSubmatch(html, -1) {
			if _, err := os.Stat(filepath.Join(repository, picture[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := lessonText(readme, "09-none", nil); err == nil {
		t.Error("no error for a section that is not there")
	}
}

// TestLessonTextShows renders what a section of README.md may consist of.
func TestLessonTextShows(t *testing.T) {
	page, err := lessonText([]byte("# Title\n\n## 05-lease\n\n"+
		"**The idea.** A lease is a *time to live*, see `Grant`.\n\n"+
		"![A lease & its \"end\"](docs/pictures/lease.svg)\n\n"+
		"Text ![of another](docs/screenshots/board.png) and ![a third](https://example.com/x.svg),\n"+
		"![a fourth](docs/pictures/../x.svg) [![in a link](docs/pictures/two-words.svg)](docs/BOARD.md)\n\n"+
		"Read [main.go](05-lease/main.go), [keep.go](05-lease/keep.go), [gone](05-lease/gone.go),\n"+
		"[other](06-watch/main.go), [docs](docs/PROOF.md), [below](#break-05-the-client-dies),\n"+
		"[three](#break-05-the-leader-dies), [elsewhere](#three-members).\n\n"+
		"| key | count |\n|---|--:|\n| `a` | **2** |\n\n"+
		"<details>\n<summary>Predict: is `a` | <code>b</code>?</summary>\n\n**No.** Since\n\n```console\n$ true\n```\n\n</details>\n\n"+
		"### Break 05: the client dies\n\n**What you see.** Nothing.\n\n"+
		"## Three members\n\nhidden\n\n### Break 02: a write\n\nhidden\n\n"+
		"### Break 05: the leader dies\n\n**Strike.** Now.\n\n#### Why\n\nSo.\n\n### Docker\n\nhidden\n"),
		"05-lease", []sourceFile{{name: "main.go"}, {name: "keep.go"}})
	if err != nil {
		t.Fatal(err)
	}
	html := string(page)
	for _, want := range []string{
		`<h2 id="text-05-lease">05-lease</h2>`,
		"<p><strong>The idea.</strong> A lease is a <em>time to live</em>, see <code>Grant</code>.</p>",
		`<p><img src="/docs/pictures/lease.svg" alt="A lease &amp; its &quot;end&quot;"></p>`,
		"Text of another and a third,\na fourth ",
		`<img src="/docs/pictures/two-words.svg" alt="in a link"></p>`,
		`<a href="#code-05-lease-main.go">main.go</a>, <a href="#code-05-lease-keep.go">keep.go</a>, gone,`,
		"\nother, docs, " + `<a href="#text-break-05-the-client-dies">below</a>,`,
		`<a href="#text-break-05-the-leader-dies">three</a>, elsewhere.`,
		"<th>key</th>\n" + `<th align="right">count</th>`,
		"<td><code>a</code></td>\n" + `<td align="right"><strong>2</strong></td>`,
		"<summary>Predict: is `a` | <code>b</code>?</summary>\n<p><strong>No.</strong> Since</p>\n<pre class=\"console\"",
		"</pre>\n</details>\n" + `<h3 id="text-break-05-the-client-dies">Break 05: the client dies</h3>`,
		"<p><strong>What you see.</strong> Nothing.</p>\n" + `<h3 id="text-break-05-the-leader-dies">`,
		"<p><strong>Strike.</strong> Now.</p>\n" + `<h4 id="text-why">Why</h4>`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(html, "hidden") || strings.Contains(html, "style=") || strings.Count(html, "<img") != 2 {
		t.Error("it shows what it should not")
	}
	if t.Failed() {
		t.Log(html)
	}
}

func TestLessonTextIsNoMarkup(t *testing.T) {
	page, err := lessonText([]byte("## 01-connect\n\n"+
		"<script>alert(1)</script>\n\n"+
		"in a line <img src=x onerror=alert(2)> and [a link](javascript:alert(3))\n\n"+
		"![<script>](javascript:alert(7)) ![b](docs/pictures/x.svg?<script> \"y\")\n\n"+
		"<details>\n<summary>a <b onclick=alert(4)>b</b> <code>c</code></summary>\n\ninside\n\n"+
		"</details>\n\n"+
		"<details onclick=alert(5)>\n<summary>x</summary>\n\n"+
		"</details>\n\n"+ // Without a beginning that is known.
		"<details>\n<summary>never closed</summary>\n\n"+
		"<!-- a comment --><svg onload=alert(6)>\n\n"+
		"```console\n$ <script>\n```\n\n```go\nvar a = \"<script>\"\n```\n\n"+
		"```other\n<script>\n```\n\n"+
		"## 02-put\n\nsecret\n"), "01-connect", nil)
	if err != nil {
		t.Fatal(err)
	}
	html := string(page)
	tag := regexp.MustCompile(`<([a-zA-Z/!][^>]*)>`)
	allowed := regexp.MustCompile(`^/?(h2|p|pre|code|span|div|details|summary)( (id|class|tabindex)="[^"]*")*$`)
	for _, found := range tag.FindAllStringSubmatch(html, -1) {
		if !allowed.MatchString(found[1]) {
			t.Errorf("it contains %s", found[0])
		}
	}
	for words, count := range map[string]int{
		"<details>": 1, "</details>": 1, "<code>c</code>": 1, "&lt;script&gt;": 5,
		"secret": 0, "style=": 0, "href=": 0,
	} {
		if got := strings.Count(html, words); got != count {
			t.Errorf("%q is there %d times, want %d", words, got, count)
		}
	}
	if t.Failed() {
		t.Log(html)
	}
}

// TestLessonFlags compares the flags that are read from a lesson's source with
// those that the lesson itself prints.
func TestLessonFlags(t *testing.T) {
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	pid := regexp.MustCompile(` \(default "pid-[0-9]+"\)`)
	total := 0
	for _, name := range lesson.Names {
		program, err := lesson.Build(t.Context(), root, name, t.Output())
		if err != nil {
			t.Fatal(err)
		}
		printed, err := exec.Command(program, "-h").CombinedOutput()
		if err != nil {
			t.Fatalf("%s -h: %v", name, err)
		}
		_, want, _ := strings.Cut(string(printed), "\n")
		files, err := (&lessons{root: root}).files(name)
		if err != nil {
			t.Fatal(err)
		}
		flags := findFlags(files)
		var got bytes.Buffer
		flags.set.SetOutput(&got)
		flags.set.PrintDefaults()
		if want = pid.ReplaceAllString(want, ""); got.String() != want {
			t.Errorf("%s: got\n%swant\n%s", name, &got, want)
		}
		total += len(flags.names)
	}
	if total == 0 {
		t.Error("no lesson has a flag")
	}
}

func TestArguments(t *testing.T) {
	flags := findFlags([]sourceFile{
		{"main.go", []byte("package main\n" +
			"var a = flag.Int64(\"ttl\", 2+1, \"\")\nvar b = flag.Bool(\"guard\", true, \"\")\n")},
		{"broken.go", nil},
		{"other.go", []byte("package main\nvar c = flag.String(\"name\", fmt.Sprint(1), \"\")\n" +
			"func init() { flag.DurationVar(&d, \"for\", 90*time.Second, \"\") }\n")},
	})
	for _, c := range []struct {
		form map[string][]string
		want string
		err  string
	}{
		{map[string][]string{"ttl": {"3"}, "guard": {"true"}, "for": {"1m30s"}, "name": {""}}, "", ""},
		{map[string][]string{"ttl": {"10"}, "guard": {"false"}, "for": {"5s"}, "name": {"-alice b"}},
			"-ttl 10 -guard=false -name -alice b -for 5s", ""},
		{map[string][]string{"ttl": {"ten"}}, "", `-ttl: "ten" is no int64`},
		{map[string][]string{"for": {"5"}}, "", "is no duration"},
		{map[string][]string{"other": {"5"}}, "", `there is no flag "other"`},
		{map[string][]string{"ttl": {"1", "2"}}, "", "one value"},
		{map[string][]string{"name": {strings.Repeat("a", 101)}}, "", "at most 100 bytes"},
		{map[string][]string{"name": {"a\x00b"}}, "", "printable"},
		{map[string][]string{"name": {"a\u202eb"}}, "", "printable"},
	} {
		args, err := arguments(flags, c.form)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%v: error %v, want %q", c.form, err, c.err)
		}
		if got := strings.Join(args, " "); got != c.want {
			t.Errorf("%v: got %q, want %q", c.form, got, c.want)
		}
	}
	if got := command("08-txn-lock", []string{"-name", "it's me", "-ttl", "3"}); got != `go run ./08-txn-lock -name 'it'\''s me' -ttl 3` {
		t.Errorf("command: %s", got)
	}
}

// TestEditedLesson runs a lesson, edits it and runs it again; then it breaks it.
func TestEditedLesson(t *testing.T) {
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
	for _, name := range []string{"a_test.go", "notes.txt", ".hidden.go", "_left.go"} {
		write(t, filepath.Join(folder, name), "package main\n\n// unseen\n")
	}
	if err := os.Mkdir(filepath.Join(folder, "folder.go"), 0o700); err != nil {
		t.Fatal(err)
	}
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
		for words, count := range map[string]int{"&lt;again&gt;": 1, `<span class="ln">`: 18, "unseen": 0} {
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

	write(t, filepath.Join(folder, "again.go"), "package main\n//"+strings.Repeat("a", sourceLimit))
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
	write(t, filepath.Join(folder, "large.svg"), strings.Repeat(" ", sourceLimit+1))
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
	page := newRecorder()
	terminal := &terminal{number: 1, page: page}
	terminal.begin("01-connect", "go run", func() {})
	began := time.Now()
	for time.Since(began) < time.Second/2 {
		printer{terminal, stdout}.Write([]byte("a"))
		time.Sleep(time.Millisecond)
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

// TestCodeCSS checks that code can be read in both styles: on white and black,
// and on grounds a little away from these.
func TestCodeCSS(t *testing.T) {
	css, err := codeCSS()
	if err != nil {
		t.Fatal(err)
	}
	light, dark, found := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("no style for the dark")
	}
	color := regexp.MustCompile(`[^-]color: (#[0-9a-f]{6})`)
	for _, c := range []struct{ css, ground string }{{light, "#eef1f4"}, {dark, "#161b22"}} {
		colors := color.FindAllStringSubmatch(c.css, -1)
		if len(colors) < 8 {
			t.Errorf("only %d colors", len(colors))
		}
		for _, found := range colors {
			if got := contrast(found[1], c.ground); got < 4.5 && found[1] != "#7f7f7f" {
				t.Errorf("%s on %s: %.1f to 1", found[1], c.ground, got)
			}
		}
	}
}

// contrast is that of WCAG 2.
func contrast(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(color string) float64 {
	var r, g, b int
	fmt.Sscanf(color, "#%02x%02x%02x", &r, &g, &b)
	linear := func(v int) float64 {
		if c := float64(v) / 255; c > 0.03928 {
			return math.Pow((c+0.055)/1.055, 2.4)
		} else {
			return c / 12.92
		}
	}
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}
