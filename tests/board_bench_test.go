//go:build unix

package tests

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	networkevents "github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"example.com/etcd-by-example/classroom/board"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
)

// BenchmarkBoardInBrowser measures how soon a browser paints the board, and how
// many updates a second reach it while etcd gets puts at full load.
func BenchmarkBoardInBrowser(b *testing.B) {
	browser := browse(b)
	etcd := etcdtest.Etcd(b, cluster.Config{})
	address := "http://" + startBoard(b, etcd, board.Config{}).Address() + "/"
	client := etcdtest.Connect(b, etcd.Endpoints()...)
	p := open(b, browser, address)

	var paints []float64
	for b.Loop() {
		do(p, chromedp.Navigate(address))
		const paint = `performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0`
		p.until("the page is painted", paint)
		paints = append(paints, eval[float64](p, paint))
	}
	slices.Sort(paints)
	b.ReportMetric(paints[len(paints)/2], "ms/first-paint")

	protocol(p, networkevents.Enable, networkevents.EnableParams{})
	var updates atomic.Int64
	err := chromedp.Listen(p.ctx, func(event any) {
		if message, ok := event.(*networkevents.EventEventSourceMessageReceived); ok && message.EventName == "update" {
			updates.Add(1)
		}
	})
	etcdtest.NoError(b, err)
	do(p, chromedp.Navigate(address))
	p.until("the page is live", `document.body.dataset.live === "true"`)
	ctx, cancel := context.WithTimeout(p.ctx, 3*time.Second)
	defer cancel()
	var puts atomic.Int64
	var writers sync.WaitGroup
	updates.Store(0)
	began := time.Now()
	for i := range 16 {
		writers.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.Put(ctx, "/load/"+strconv.Itoa(i), "v"); err == nil {
					puts.Add(1)
				}
			}
		})
	}
	writers.Wait()
	seconds := time.Since(began).Seconds()
	b.ReportMetric(float64(puts.Load())/seconds, "puts/s")
	b.ReportMetric(float64(updates.Load())/seconds, "updates/s")
	if updates.Load() == 0 {
		b.Error("no update reached the browser")
	}
}
