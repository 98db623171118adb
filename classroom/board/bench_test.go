package board

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// BenchmarkPuts compares etcd's throughput with the board in 50 viewers and
// without it, in turns: other programs disturb both alike.
func BenchmarkPuts(b *testing.B) {
	board, client, _ := start(b, 1)
	const writers = 32
	load := func(lasting time.Duration) float64 {
		runtime.GC() // What a board leaves when it starts is not its cost per put.
		var done sync.WaitGroup
		counts := make([]int, writers)
		begin := time.Now()
		for i := range writers {
			done.Go(func() {
				for time.Since(begin) < lasting {
					client.Put(b.Context(), fmt.Sprintf("/load/%d", (i*37+counts[i])%1000), "some value")
					counts[i]++
				}
			})
		}
		done.Wait()
		sum := 0
		for _, count := range counts {
			sum += count
		}
		return float64(sum) / time.Since(begin).Seconds()
	}
	var with, without []float64
	for b.Loop() {
		address := board.Address()
		var bodies []io.Closer
		for range 50 {
			answer, err := http.Get("http://" + address + "/events")
			if err != nil {
				b.Fatal(err)
			}
			bodies = append(bodies, answer.Body)
			go io.Copy(io.Discard, answer.Body)
		}
		with = append(with, load(3*time.Second))
		for _, body := range bodies {
			body.Close()
		}
		board.Close()
		without = append(without, load(3*time.Second))
		next, err := Start(b.Context(), board.config)
		if err != nil {
			b.Fatal(err)
		}
		board = next
	}
	board.Close()
	slices.Sort(with)
	slices.Sort(without)
	b.ReportMetric(with[len(with)/2], "puts/s-with")
	b.ReportMetric(without[len(without)/2], "puts/s-without")
	b.ReportMetric(with[len(with)/2]/without[len(without)/2], "ratio")
}

// BenchmarkDelay is the time from a put's acknowledgement to the stream of a
// viewer, at 1,000 puts per second.
func BenchmarkDelay(b *testing.B) {
	board, client, _ := start(b, 1)
	var mu sync.Mutex
	acknowledged := map[int64]time.Time{}
	next := events(b, board.Address())
	next()
	ctx := b.Context()
	go func() {
		ticks := time.NewTicker(time.Millisecond)
		defer ticks.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-ticks.C
			go func() {
				put, err := client.Put(ctx, fmt.Sprintf("/delay/%d", i%1000), "some value")
				if err == nil {
					mu.Lock()
					acknowledged[put.Header.Revision] = time.Now()
					mu.Unlock()
				}
			}()
		}
	}()
	var delays []time.Duration
	var shown int64
	var updates int
	begin := time.Now()
	for b.Loop() {
		_, data := next()
		for !strings.Contains(data, `"id":"revision"`) {
			updates++
			_, data = next()
		}
		updates++
		now := time.Now()
		var revision int64
		at := strings.Index(data, `"id":"revision","html":"`) + len(`"id":"revision","html":"`)
		fmt.Sscanf(data[at:], "%d", &revision)
		mu.Lock()
		for ; shown <= revision; shown++ {
			if at, found := acknowledged[shown]; found {
				delays = append(delays, max(0, now.Sub(at)))
				delete(acknowledged, shown)
			}
		}
		mu.Unlock()
	}
	seconds := time.Since(begin).Seconds()
	slices.Sort(delays)
	if len(delays) == 0 {
		return
	}
	b.ReportMetric(float64(delays[len(delays)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds())/1000, "ms-99th")
	b.ReportMetric(float64(len(delays))/seconds, "puts/s")
	b.ReportMetric(float64(updates)/seconds, "updates/s")
}

// BenchmarkMemory is what 100,000 events on 1,000 keys leave behind.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := newState()
		for i := range int64(100_000) {
			s.apply(s.begun, []*clientv3.Event{testPut(i+2, fmt.Sprint("/memory/", i%1000))}, time.Now())
			if i%1000 == 0 {
				html("timeline", s.timeline(0, 0))
				html("keys", s.table())
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(s)
	}
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/(1<<20), "MiB")
}
