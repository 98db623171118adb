package course

import (
	"bytes"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/chroma/v2"
	chromahtml "github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/alecthomas/chroma/v2/styles"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// The styles have a contrast of 7 to 1 on white and on black.
var lightStyle, darkStyle = styles.Get("modus-operandi"), styles.Get("modus-vivendi")

// CSS returns the style sheet of what Text and Code return, light or dark by the
// system's setting.
func CSS() ([]byte, error) {
	var css bytes.Buffer
	formatter := chromahtml.New(chromahtml.WithClasses(true), chromahtml.WithCSSComments(false))
	if err := formatter.WriteCSS(&css, lightStyle); err != nil {
		return nil, err
	}
	css.WriteString("@media (prefers-color-scheme: dark) {\n")
	if err := formatter.WriteCSS(&css, darkStyle); err != nil {
		return nil, err
	}
	css.WriteString("}\n")
	return css.Bytes(), nil
}

// highlight returns Go source with its parts marked by classes.
func highlight(source []byte, numbered bool) (template.HTML, error) {
	tokens, err := chroma.Coalesce(lexers.Go).Tokenise(nil, string(source))
	if err != nil {
		return "", fmt.Errorf("highlight the source: %w", err)
	}
	var code bytes.Buffer
	formatter := chromahtml.New(chromahtml.WithClasses(true),
		chromahtml.WithLineNumbers(numbered))
	if err := formatter.Format(&code, lightStyle, tokens); err != nil {
		return "", fmt.Errorf("highlight the source: %w", err)
	}
	return template.HTML(code.String()), nil
}

// Text returns what README.md says about a lesson, as HTML: from its heading to
// the next of that level, and then the parts of other sections that are called
// "Break" and have its number, which need three members. Links lead to the IDs of
// the files, to headings of the text and to the web, pictures to Pictures.
func Text(root, name string, files []File) (template.HTML, error) {
	readme, err := read(root, "README.md")
	if err != nil {
		return "", err
	}
	// The page's policy forbids the style that says by default how cells are aligned.
	markdown := goldmark.New(goldmark.WithExtensions(extension.NewTable(
		extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))))
	markdown.Renderer().AddOptions(
		renderer.WithNodeRenderers(util.Prioritized(safeBlocks{}, 100)))
	document := markdown.Parser().Parse(text.NewReader(readme))

	number, _, _ := strings.Cut(name, "-")
	found, inside, part := false, false, false
	var next ast.Node
	for n := document.FirstChild(); n != nil; n = next {
		next = n.NextSibling()
		if h, ok := n.(*ast.Heading); ok && h.Level <= 2 {
			inside, part = plainText(h, readme) == name, false
			found = found || inside
		} else if ok && h.Level == 3 {
			part = strings.HasPrefix(plainText(h, readme), "Break "+number)
		}
		if !inside && !part {
			document.RemoveChild(document, n)
		}
	}
	if !found {
		return "", fmt.Errorf("README.md has no section %q", name)
	}
	if err := relink(document, readme, files); err != nil {
		return "", err
	}
	closeDetails(document, readme)
	var page bytes.Buffer
	if err := markdown.Renderer().Render(&page, readme, document); err != nil {
		return "", fmt.Errorf("render README.md: %w", err)
	}
	return template.HTML(page.String()), nil
}

// relink gives headings an ID, and lets links and pictures lead to what the page
// has. A link to anything else that is not on the web becomes plain text, and any
// other picture what is written in its place.
func relink(document ast.Node, source []byte, files []File) error {
	ids := make(map[string]bool)
	var links []*ast.Link
	var images []*ast.Image
	err := ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			id := "text-" + anchor(plainText(n, source))
			ids[id] = true
			n.SetAttributeString("id", []byte(id))
		case *ast.Link:
			links = append(links, n)
		case *ast.Image:
			images = append(images, n)
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return err
	}
	for _, link := range links {
		to := string(link.Destination)
		heading, isHeading := strings.CutPrefix(to, "#")
		file := slices.IndexFunc(files, func(f File) bool { return f.Path == to })
		switch {
		case file >= 0:
			link.Destination = []byte("#" + files[file].ID())
		case isHeading && ids["text-"+heading]:
			link.Destination = []byte("#text-" + heading)
		case strings.HasPrefix(to, "https://"):
			link.SetAttributeString("target", []byte("_blank"))
			link.SetAttributeString("rel", []byte("noreferrer"))
		default:
			unwrap(link)
		}
	}
	for _, image := range images {
		to, isPicture := strings.CutPrefix(string(image.Destination), Pictures)
		if isPicture && pictureName.MatchString(to) {
			image.Destination = []byte("/" + Pictures + to)
		} else {
			unwrap(image)
		}
	}
	return nil
}

// unwrap leaves what is in a node in its place.
func unwrap(n ast.Node) {
	for child := n.FirstChild(); child != nil; child = n.FirstChild() {
		n.Parent().InsertBefore(n.Parent(), n, child)
	}
	n.Parent().RemoveChild(n.Parent(), n)
}

// plainText returns the text of a node without its markup.
func plainText(n ast.Node, source []byte) string {
	var b strings.Builder
	ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// anchor returns the name that GitHub gives to a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

// Of HTML a README may use what is needed to fold an answer away. Everything
// else is shown as it is written.
var (
	openDetails = regexp.MustCompile(`^<details>\n<summary>(.*)</summary>\n*$`)
	endDetails  = regexp.MustCompile(`^</details>\n*$`)
	comment     = regexp.MustCompile(`(?s)^<!--.*-->\n*$`)
	escapedCode = regexp.MustCompile(`&lt;code&gt;(.*?)&lt;/code&gt;`)
)

// closeDetails removes what opens an answer and does not close it, or the other
// way round: the rest of the page would end up in the wrong place.
func closeDetails(document ast.Node, source []byte) {
	var open, drop []ast.Node
	for n := document.FirstChild(); n != nil; n = n.NextSibling() {
		block, ok := n.(*ast.HTMLBlock)
		if !ok {
			continue
		}
		switch raw := htmlBlock(block, source); {
		case openDetails.MatchString(raw):
			open = append(open, n)
		case endDetails.MatchString(raw) && len(open) > 0:
			open = open[:len(open)-1]
		case endDetails.MatchString(raw):
			drop = append(drop, n)
		}
	}
	for _, n := range slices.Concat(open, drop) {
		document.RemoveChild(document, n)
	}
}

func htmlBlock(n *ast.HTMLBlock, source []byte) string {
	raw := n.Lines().Value(source)
	if n.HasClosure() {
		raw = append(raw, n.ClosureLine.Value(source)...)
	}
	return string(raw)
}

// safeBlocks renders HTML and code blocks.
type safeBlocks struct{}

func (safeBlocks) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindHTMLBlock, renderHTMLBlock)
	r.Register(ast.KindRawHTML, renderRawHTML)
	r.Register(ast.KindFencedCodeBlock, renderCode)
}

func renderHTMLBlock(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	raw := htmlBlock(n.(*ast.HTMLBlock), source)
	atTop := n.Parent().Kind() == ast.KindDocument // closeDetails looks there only.
	switch found := openDetails.FindStringSubmatch(raw); {
	case found != nil && atTop:
		summary := escapedCode.ReplaceAllString(template.HTMLEscapeString(found[1]), "<code>$1</code>")
		fmt.Fprintf(w, "<details>\n<summary>%s</summary>\n", summary)
	case endDetails.MatchString(raw) && atTop:
		w.WriteString("</details>\n")
	case comment.MatchString(raw) && strings.Count(raw, "-->") == 1:
	default:
		fmt.Fprintf(w, "<pre>%s</pre>\n", template.HTMLEscapeString(raw))
	}
	return ast.WalkContinue, nil
}

func renderRawHTML(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		w.WriteString(template.HTMLEscapeString(string(n.(*ast.RawHTML).Segments.Value(source))))
	}
	return ast.WalkSkipChildren, nil
}

// renderCode shows Go with highlighting, and tells what is typed at a terminal
// from what is printed.
func renderCode(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	block := n.(*ast.FencedCodeBlock)
	content := block.Lines().Value(source)
	switch string(block.Language(source)) {
	case "go":
		code, err := highlight(content, false)
		if err != nil {
			return ast.WalkStop, err
		}
		w.WriteString(string(code))
	case "console":
		w.WriteString(`<pre class="console" tabindex="0"><code>`)
		for line := range strings.Lines(string(content)) {
			escaped := template.HTMLEscapeString(line)
			if typed.MatchString(line) {
				escaped = `<span class="typed">` + escaped + `</span>`
			}
			w.WriteString(escaped)
		}
		w.WriteString("</code></pre>\n")
	default:
		fmt.Fprintf(w, "<pre tabindex=\"0\"><code>%s</code></pre>\n", template.HTMLEscapeString(string(content)))
	}
	return ast.WalkContinue, nil
}

// typed matches lines of a transcript that somebody types.
var typed = regexp.MustCompile(`^(\$ |> |>$|\^[CZ]$)`)
