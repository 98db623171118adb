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

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/history"
)

// BenchmarkPuts compares etcd's throughput with the board in 50 viewers, with a bare
// watch of all keys, which is the least that a board could cost, and with neither, in
// turns: other programs disturb all alike. On two cores, which etcd fills by itself,
// the bare watch gets about 0.9.
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
	var with, watched, without []float64
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
		watched = append(watched, func() float64 {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			watch := client.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCreatedNotify())
			<-watch
			go func() {
				for range watch {
				}
			}()
			return load(3 * time.Second)
		}())
		without = append(without, load(3*time.Second))
		next, err := Start(b.Context(), board.config)
		if err != nil {
			b.Fatal(err)
		}
		board = next
	}
	board.Close()
	median := func(rates []float64) float64 {
		slices.Sort(rates)
		return rates[len(rates)/2]
	}
	b.ReportMetric(median(with), "puts/s-board")
	b.ReportMetric(median(watched), "puts/s-watch")
	b.ReportMetric(median(without), "puts/s-neither")
	b.ReportMetric(median(with)/median(without), "board/neither")
	b.ReportMetric(median(watched)/median(without), "watch/neither")
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
