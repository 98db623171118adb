//go:build unix

package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	pageevents "github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// pageLimit bounds every wait for something on a page. Other tests, and other
// tabs, may keep all cores busy.
const pageLimit = 40 * time.Second

// browse starts a browser that ends with the test. Without one the test is
// skipped; in CI it fails.
func browse(t testing.TB) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		etcdtest.SkipUnlessCI(t, "this test needs a browser; install chromium to run it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 720))
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	browser, _ := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(browser); err != nil {
			t.Errorf("end the browser: %v", err)
		}
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return browser
}

// tab is a page in the browser.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string // errors in the console, and dialogs
}

// open opens a tab that shares nothing with others.
func open(t testing.TB, browser context.Context, address string) *tab {
	t.Helper()
	p := &tab{t: t}
	ctx, end := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(),
		chromedp.WithListener(p.listen))
	t.Cleanup(end)
	p.ctx = ctx
	// The first command makes the tab, which lives as long as its context.
	_, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	p.size(1280, 720)
	do(p, chromedp.Navigate(address))
	p.until("the page is live", `document.body.dataset.live === "true"`)
	return p
}

// protocol does a command of the browser's protocol in the tab.
func protocol[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	return do(p, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	})
}

func (p *tab) listen(event any) {
	var complaint string
	switch event := event.(type) {
	case *log.EventEntryAdded:
		if event.Entry.Level == "error" || event.Entry.Level == "warning" {
			complaint = fmt.Sprintf("%s: %s %s", event.Entry.Level, event.Entry.Text, event.Entry.URL)
		}
	case *cdpruntime.EventExceptionThrown:
		complaint = "exception: " + event.ExceptionDetails.Text
	case *cdpruntime.EventConsoleAPICalled:
		if event.Type == "error" || event.Type == "warning" || event.Type == "assert" {
			complaint = "console: " + string(event.Type)
		}
	case *pageevents.EventJavascriptDialogOpening:
		complaint = "dialog: " + event.Message
	}
	if complaint != "" {
		p.mu.Lock()
		p.complaints = append(p.complaints, complaint)
		p.mu.Unlock()
	}
}

// quiet fails the test when the browser has complained.
func (p *tab) quiet() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, complaint := range p.complaints {
		p.t.Errorf("the browser complains: %s", complaint)
	}
}

// do does something in the tab.
func do[T any](p *tab, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageLimit)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		p.fatalf("%v", err)
	}
	return value
}

func (p *tab) size(width, height int64) {
	p.t.Helper()
	do(p, chromedp.EmulateViewport(width, height))
}

// narrow fails the test when the page is wider than it should be.
func (p *tab) narrow(most int) {
	p.t.Helper()
	if wide := eval[int](p, `document.documentElement.scrollWidth`); wide > most {
		p.t.Errorf("the page is %d pixels wide, and may be %d", wide, most)
	}
}

// prefer sets what a user prefers: for example "prefers-color-scheme", "dark".
func (p *tab) prefer(pairs ...string) {
	p.t.Helper()
	var features []*emulation.MediaFeature
	for i := 0; i < len(pairs); i += 2 {
		features = append(features, &emulation.MediaFeature{Name: pairs[i], Value: pairs[i+1]})
	}
	protocol(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
}

func (p *tab) click(selector string) {
	p.t.Helper()
	do(p, chromedp.Click(chromedp.CSS(selector)))
}

func (p *tab) press(keys string) {
	p.t.Helper()
	do(p, chromedp.KeyEvent(keys))
}

// point moves the mouse to the middle of what is in sight of an element.
func (p *tab) point(selector string) {
	p.t.Helper()
	at := eval[[]float64](p, fmt.Sprintf(`(() => {
		const element = document.querySelector(%s);
		const box = element.getBoundingClientRect();
		const place = element.closest("#timeline, .scroll, body").getBoundingClientRect();
		return [box.x + box.width / 2, (Math.max(box.top, place.top) + Math.min(box.bottom, place.bottom)) / 2];
	})()`, quoted(selector)))
	do(p, chromedp.MouseEvent("mouseMoved", at[0], at[1]))
}

// eval returns the value of an expression in the page.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	return do(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until returns when an expression is true in the page.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	var last error
	for end := time.Now().Add(pageLimit); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		var holds bool
		holds, last = chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		cancel()
		if last == nil && holds {
			return
		}
	}
	p.fatalf("not within %v: %s (%v)", pageLimit, what, last)
}

// says returns when the text of an element contains words.
func (p *tab) says(selector, words string) {
	p.t.Helper()
	p.until(selector+" says "+words, fmt.Sprintf(
		`document.querySelector(%s)?.textContent.includes(%s)`, quoted(selector), quoted(words)))
}

// text returns what an element says.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf(
		`document.querySelector(%s)?.textContent ?? "(no such element)"`, quoted(selector)))
}

// fatalf fails the test and shows what the page shows.
func (p *tab) fatalf(format string, args ...any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	shown, err := chromedp.Run(ctx, chromedp.Evaluate[string](`["#top", "#lessons-message", ".terminals",
		"#change", "#keys", "#leases", "#lock", "#members"].map((panel) =>
		panel + "\n" + document.querySelector(panel)?.innerText).join("\n")`))
	p.mu.Lock()
	complaints := strings.Join(p.complaints, "\n")
	p.mu.Unlock()
	p.t.Fatalf(format+"\nthe page shows (%v):\n%s\n%s", append(args, err, shown, complaints)...)
}

// quoted returns a string as JavaScript.
func quoted(text string) string {
	raw, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(raw)
}
