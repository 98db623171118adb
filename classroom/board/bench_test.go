package board

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/history"
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

// BenchmarkDelay is the time from a put's acknowledgement to the stream of a viewer,
// at 1,000 and at 5,000 puts per second.
func BenchmarkDelay(b *testing.B) {
	for _, rate := range []int{1000, 5000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) { delay(b, rate) })
	}
}

func delay(b *testing.B, rate int) {
	board, client, _ := start(b, 1)
	var mu sync.Mutex
	acknowledged := map[int64]time.Time{}
	next := events(b, board.Address())
	next()
	ctx, cancel := context.WithCancel(b.Context())
	var writers sync.WaitGroup
	const each = 64
	for i := range each {
		writers.Go(func() {
			every := each * time.Second / time.Duration(rate)
			time.Sleep(every * time.Duration(i) / each) // Else all would put at the same moments.
			ticks := time.NewTicker(every)
			defer ticks.Stop()
			for n := i; ctx.Err() == nil; n += each {
				<-ticks.C
				put, err := client.Put(ctx, fmt.Sprintf("/delay/%d", n%1000), "some value")
				if err == nil {
					mu.Lock()
					acknowledged[put.Header.Revision] = time.Now()
					mu.Unlock()
				}
			}
		})
	}
	defer writers.Wait()
	defer cancel()
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

// BenchmarkOpen opens the board on a history of a million changes of 10,000 keys: the
// time until the page is there, and until a moment of the past is.
func BenchmarkOpen(b *testing.B) {
	began := time.Now()
	record := history.New(history.Limits{}, 1, nil, began)
	versions := make([]history.KeyValue, 10_000)
	for revision := int64(2); revision < 1_000_002; revision++ {
		kv := &versions[revision*7919%int64(len(versions))]
		if kv.Version++; kv.Version == 1 {
			kv.Key, kv.Create = fmt.Sprintf("/open/%05d", revision*7919%int64(len(versions))), revision
		}
		kv.Mod, kv.Value = revision, "a value of some fifty bytes, as programs may write"
		if err := record.Append([]history.Put{*kv}, began.Add(time.Duration(revision)*time.Millisecond)); err != nil {
			b.Fatal(err)
		}
	}
	var opened, moved time.Duration
	for b.Loop() {
		from := time.Now()
		board, err := Start(b.Context(), Config{Saved: record, Root: "../..", Address: "127.0.0.1:0"})
		if err != nil {
			b.Fatal(err)
		}
		get(b, "http://"+board.Address()+"/")
		opened += time.Since(from)
		from = time.Now()
		get(b, "http://"+board.Address()+"/moment?rev=500000")
		moved += time.Since(from)
		board.Close()
	}
	b.ReportMetric(opened.Seconds()*1000/float64(b.N), "ms-open")
	b.ReportMetric(moved.Seconds()*1000/float64(b.N), "ms-moment")
}
