package tests

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// quick are the flags that shorten the waits of the lessons that have some.
var quick = map[string][]string{
	"05-lease":    {"-ttl", "3"},
	"06-watch":    {"-for", "12s"}, // It takes three, and so long on a slow machine.
	"08-txn-lock": {"-work", "500ms", "-ttl", "30"},
}

// says is what a lesson must have printed, as patterns: in this order when it runs
// alone, and in any case. What two that run at the same time do to each other's keys
// depends on who is first.
var says = map[string]struct{ alone, anyway []string }{
	"01-connect": {nil, []string{`after New the connection is IDLE\n`, `after Get the connection is READY\n`,
		`keys under /cron/jobs/: \d+\n`, `leader true, raft term \d+, revision \d+\n`, `is etcd1, for clients at`}},
	"02-put": {[]string{`"hello"\n  replaced   nothing\n`, `version 1\n`, `"world"\n  replaced   "hello" @ \d+\n`,
		`version 2\n`, `"world"\n  replaced   "world" @ \d+\n`, `version 3\n$`},
		[]string{`The first put .*\n.* -> "hello"\n`, `The second .*\n.* -> "world"\n`, `The same .*\n.* -> "world"\n`}},
	"03-get": {[]string{`One key: count 1, .*\n  \S+ @ \d+ -> "run hourly"\n`, `A missing key: count 0, more false\n`,
		`The past, at revision \d+: count 1, more false\n  \S+ @ \d+ -> "run daily"\n$`},
		[]string{`A missing key: count 0`, `A prefix: count 3, more false\n`, `without its slash: count 5, more false\n`,
			`Count only: count 3, more false\nAt most two: count 3, more true\n`, `The past, at revision \d+: count 1`}},
	"04-delete": {[]string{`One key: deleted 1, previous values 0`, `WithPrevKV: deleted 1, previous values 1`,
		`was "run job2"\n`, `again: deleted 0, previous values 0`, `A prefix: deleted 2, previous values 2`, `was "run job4"\n$`},
		[]string{`job4 @ \d+\n`, `One key: `, `The same key again: `, `A prefix: `}},
	"05-lease": {[]string{`granted for 3 s\n`, `left: \[/cron/jobs/lease/job1\]\n  -1 of 0 s left: \[\]\n`},
		[]string{`granted for 3 s\n`, `[2-5] renewals in 4 s`, `of 3 s left: `, `-1 of 0 s left: \[\]\n`,
			`that is revoked:\n  lease [0-9a-f]+, granted for 3 s\n  -1 of 0 s left: \[\]\n$`}},
	"06-watch": {[]string{`PUT .*"hello"\n`, `PUT .*"world", was "hello"\n`, `DELETE .*"", was "world"\n$`},
		[]string{`the present @ \d+: \d+ keys\n`, `PUT `, `DELETE `}},
	"07-op": {[]string{`get .*"host1"\n`, `read  "host1" @ (\d+)\n  refused: it is no longer @ \d+\n`, `read  "host1 host2" @ \d+\n`,
		`wrote "host1 host2 host3" @ \d+\n$`},
		[]string{`put    @ \d+\n  get    @ \d+\n  delete @ \d+\n`, `refused: `, `wrote ".* host3" @ \d+\n$`}},
	"08-txn-lock": {[]string{`^pid-\d+ has the lock, token (\d+)\n/cron/jobs/job9 @ \d+ -> "done by pid-\d+, token \d+"\n$`},
		[]string{`^pid-\d+ has (the|not got the) lock`}},
}

// TestLessons runs each lesson alone, again, twice at the same time, and on a
// store that holds keys of others, which it must leave as they are.
func TestLessons(t *testing.T) {
	t.Parallel()
	etcdtest.ReserveFirst(t, 1)
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	t.Cleanup(harness.PutNeighbours(t, client))
	t.Cleanup(func() { harness.NoLeases(t, client) })
	for _, lesson := range harness.Lessons {
		t.Run(lesson, func(t *testing.T) {
			t.Parallel()
			once := func(patterns ...string) string {
				got := harness.Run(t, etcd.Endpoints()[0], nil, lesson, quick[lesson]...)
				got.Want(t, 0, "", "")
				if inOrder := strings.Join(patterns, `(.*\n)*.*`); !regexp.MustCompile(inOrder).MatchString(got.Stdout) {
					t.Errorf("%q is not in this:\n%s", inOrder, got.Stdout)
				}
				// The countdown of 05 may have a line more or less.
				lines := strings.Split(numbers.ReplaceAllString(got.Stdout, "N"), "\n")
				return strings.Join(slices.Compact(lines), "\n")
			}
			first, second := once(says[lesson].alone...), once(says[lesson].anyway...)
			// It begins with what it needs, whatever is there. When the present of 06
			// is read, its writer may have begun.
			if first != second && lesson != "06-watch" {
				t.Errorf("it prints\n%s\nand the second time\n%s", first, second)
			}
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() { once(says[lesson].anyway...) })
			}
			both.Wait()
		})
	}
}

// numbers are what differs between two runs of a lesson on the same store.
var numbers = regexp.MustCompile(`\b[0-9a-f]{16}\b|\d+`)

// TestConnectCounts has lesson 01 count keys that others have put.
func TestConnectCounts(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	for _, key := range []string{"/cron/jobs", "/cron/jobs/a", "/cron/jobs/b/c", "/cron/jobs0"} {
		harness.Put(t, client, key, "")
	}
	harness.Run(t, etcd.Endpoints()[0], nil, "01-connect").Want(t, 0, "keys under /cron/jobs/: 2\n", "")
}

// TestPutReadsItsOwn writes between a put of lesson 02 and its reading of what that
// put made.
func TestPutReadsItsOwn(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client, network := etcdtest.Connect(t, etcd.Endpoints()...), harness.NewRelay(t, etcd.Endpoints()[0])
	network.Slow(60 * time.Millisecond)
	lesson := harness.Start(t, network.Address, []string{harness.Patient}, "02-put")
	lesson.Await(t, `-> "hello"`)
	harness.Put(t, client, "/cron/jobs/put/job1", "between")
	got := lesson.Wait(t)
	got.Stdout, _, _ = strings.Cut(got.Stdout, "The second")
	got.Want(t, 0, "version 1\n", "")
}

// TestLeaseSaysWhatWasGranted asks for a TTL that etcd does not have.
func TestLeaseSaysWhatWasGranted(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{Args: []string{"--election-timeout=2000"}})
	got := harness.Run(t, etcd.Endpoints()[0], nil, "05-lease", "-ttl", "1")
	got.Want(t, 0, "renewals in 4 s", "")
	if strings.Count(got.Stdout, "granted for 3 s") != 2 {
		t.Errorf("want two leases of 3 s:\n%s", got.Stdout)
	}
}

// TestFailedWriteEndsTheWatch has etcd refuse what the writer of lesson 06 puts.
func TestFailedWriteEndsTheWatch(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	full := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE}
	_, err := pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(etcdtest.Soon(t), full)
	etcdtest.NoError(t, err)
	harness.Run(t, etcd.Endpoints()[0], nil, "06-watch", "-for", "1h").Want(t, 1, "", "space exceeded (compact the history")
}

// TestLessonLeavesNoGoroutine runs every lesson's run function in a process of
// its own and looks for goroutines of the lesson once it has returned. The
// lesson folders hold nothing for that: the test is laid over them.
func TestLessonLeavesNoGoroutine(t *testing.T) {
	etcdtest.NeedsLong(t, "it links each lesson with a test")
	t.Parallel()
	for _, lesson := range harness.Lessons {
		t.Run(lesson, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Etcd(t, cluster.Config{})
			env := []string{"ETCDCTL_ENDPOINTS=" + etcd.Endpoints()[0]}
			p, _ := harness.StartOverlaid(t, lesson, "TestGoroutines", env, append([]string{"-test.v"}, quick[lesson]...)...)
			p.Wait(t).Want(t, 0, "--- PASS", "")
		})
	}
}
