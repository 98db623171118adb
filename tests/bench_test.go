package tests

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/cluster"
)

// BenchmarkStart measures the time until a new etcd answers its first Get: the
// classroom's, and the same server with etcd's default timing. The ratio is
// classroom/default; below 0.5 is the aim.
func BenchmarkStart(b *testing.B) {
	// 100 ms and 1 s are etcd's defaults.
	official := cluster.Config{Args: []string{
		"--heartbeat-interval=100", "--election-timeout=1000"}}
	var ours, theirs time.Duration
	for b.Loop() {
		ours += firstGet(b, cluster.Config{})
		theirs += firstGet(b, official)
	}
	b.ReportMetric(ours.Seconds()*1000/float64(b.N), "classroom-ms")
	b.ReportMetric(theirs.Seconds()*1000/float64(b.N), "default-ms")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "classroom/default")
}

func firstGet(b *testing.B, config cluster.Config) time.Duration {
	start := time.Now()
	etcd, err := cluster.Start(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	defer etcd.Close()
	client := connect(b, etcd.Endpoints()...)
	defer client.Close()
	if _, err := client.Get(soon(b), "first"); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// BenchmarkTour measures the tour, when it is built, beyond the waits that its
// lessons are made of; below 3 s is the aim. The waits: 05 lets a lease of 3 s
// expire, keeps one for 4 s and lets it expire; 06 watches for 10 s; 08 works
// for 5 s.
func BenchmarkTour(b *testing.B) {
	const waits = (3 + 4 + 3 + 10 + 5) * time.Second
	if got := run(b, dead, nil, "classroom", "tour"); got.status != 1 {
		b.Fatal("without an etcd it only builds, and fails")
	}
	var beyond time.Duration
	for b.Loop() {
		got := run(b, "", nil, "classroom", "tour")
		if got.status != 0 {
			b.Fatal(got.stderr)
		}
		beyond += got.took - waits
	}
	b.ReportMetric(beyond.Seconds()/float64(b.N), "s-beyond-waits")
}

// BenchmarkLockCycle measures one lock and unlock with the functions of lesson
// 08, as a ratio to the same three calls alone (at most 1.1 is the aim) and to
// the package concurrency (at most 0.75).
func BenchmarkLockCycle(b *testing.B) {
	endpoint := startEtcd(b, cluster.Config{}).Endpoints()[0]
	binary := overlaid(b, "08-txn-lock")
	var lesson, bare, concurrency time.Duration
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), binary, "-test.run", "LockCycle")
		cmd.Env = plainEnv("ETCDCTL_ENDPOINTS=" + endpoint)
		output, err := cmd.Output()
		if err != nil {
			b.Fatalf("%v\n%s", err, output)
		}
		var medians struct{ Lesson, Bare, Concurrency time.Duration }
		line, _, _ := strings.Cut(string(output), "\n")
		if err := json.Unmarshal([]byte(line), &medians); err != nil {
			b.Fatalf("%v\n%s", err, output)
		}
		lesson += medians.Lesson
		bare += medians.Bare
		concurrency += medians.Concurrency
	}
	b.ReportMetric(lesson.Seconds()*1000/float64(b.N), "lesson-ms")
	b.ReportMetric(lesson.Seconds()/bare.Seconds(), "lesson/calls")
	b.ReportMetric(bare.Seconds()/concurrency.Seconds(), "calls/concurrency")
	b.ReportMetric(lesson.Seconds()/concurrency.Seconds(), "lesson/concurrency")
}
