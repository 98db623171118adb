package course

import (
	"fmt"
	"html/template"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

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

// TestText compares what is shown of each lesson with what README.md has of
// it, whatever that says.
func TestText(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names {
		files, err := Files(repository, name)
		if err != nil {
			t.Fatal(err)
		}
		page, err := Text(repository, name, files)
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
			`!\[[^]]*\]\(` + Pictures: `<img src="/` + Pictures, `(?m)^\|[-:| ]+\|$`: "<table>",
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
			isFile := slices.ContainsFunc(files, func(f File) bool { return f.ID() == id })
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
	if _, err := Text(repository, "09-none", nil); err == nil {
		t.Error("no error for a section that is not there")
	}
}

// rendered returns the text of a lesson of which README.md is given.
func rendered(t *testing.T, readme, name string, files []File) (template.HTML, error) {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "README.md"), readme)
	return Text(root, name, files)
}

// TestTextShows renders what a section of README.md may consist of.
func TestTextShows(t *testing.T) {
	page, err := rendered(t, "# Title\n\n## 05-lease\n\n"+
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
		"### Break 05: the leader dies\n\n**Strike.** Now.\n\n#### Why\n\nSo.\n\n### Docker\n\nhidden\n",
		"05-lease", []File{{Path: "05-lease/main.go"}, {Path: "05-lease/keep.go"}})
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

func TestTextIsNoMarkup(t *testing.T) {
	page, err := rendered(t, "## 01-connect\n\n"+
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
		"## 02-put\n\nsecret\n", "01-connect", nil)
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

// TestCSS checks that code can be read in both styles: on white and black,
// and on grounds a little away from these.
func TestCSS(t *testing.T) {
	css, err := CSS()
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
