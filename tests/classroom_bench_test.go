package tests

import (
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
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
	etcdtest.NoError(b, err)
	defer etcd.Close()
	client := etcdtest.Connect(b, etcd.Endpoints()...)
	defer client.Close()
	if _, err := client.Get(etcdtest.Soon(b), "first"); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// BenchmarkTour measures the tour, when it is built, beyond the waits that its
// lessons are made of; below 3 s is the aim. The waits: 05 keeps a lease for 4 s
// and lets it expire; 06 watches for 10 s; 08 works for 5 s.
func BenchmarkTour(b *testing.B) {
	const waits = (4 + 3 + 10 + 5) * time.Second
	if got := harness.Run(b, harness.Nobody, nil, "classroom", "tour"); got.Status != 1 {
		b.Fatal("without an etcd it only builds, and fails")
	}
	var beyond time.Duration
	for b.Loop() {
		got := harness.Run(b, "", nil, "classroom", "tour")
		if got.Status != 0 {
			b.Fatal(got.Stderr)
		}
		beyond += got.Took - waits
	}
	b.ReportMetric(beyond.Seconds()/float64(b.N), "s-beyond-waits")
}
