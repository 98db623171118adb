package board

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
)

// plantedClass returns the record of two learners, each with a lock of their own, who
// contend for the one of the class. A second passes with each revision.
func plantedClass(t testing.TB) *history.Record {
	began := time.Date(2026, 5, 4, 12, 0, 0, 0, time.Local)
	record := history.New(history.Limits{}, 1, nil, began)
	add := func(key, value string, lease int64) {
		t.Helper()
		kv := history.Put{Key: key, Value: value, Create: record.Last() + 1, Mod: record.Last() + 1, Version: 1, Lease: lease}
		if old := record.Present().Get(key); old != nil {
			kv.Create, kv.Version = old.Create, old.Version+1
		}
		must[int](t)(0, record.Append([]history.Put{kv}, began.Add(time.Duration(kv.Mod)*time.Second)))
	}
	add(".names/ann", "hash", 0)
	add(".names/bob", "hash", 0)
	add(".here/ann", "01-connect <b> 01-connect \u202e", 5)
	add("ann:/cron/lock/job9", "ann's own", 0)
	add("ann:/cron/jobs/job9", "done by ann, token 5", 0)
	add("class:/cron/lock/job9", "ann", 6)
	add("bob:/cron/jobs/put/job1", "hello", 0)
	add("class:/cron/jobs/job9", "done by bob, token 3", 0)
	add("ann:/cron/jobs/put/job1", strings.Repeat("hello ", 20), 0)
	add("class:/cron/lock/queue/8", "in a queue", 8)
	for _, lease := range []int64{5, 6, 7} {
		at := began.Add(20 * time.Second)
		record.Look(history.Look{Lease: lease, Asked: at, Answered: at, TTL: 30, Remaining: 25, Term: 2})
	}
	record.Member(history.Member{Name: "etcd1", Endpoint: "a", ID: 1, Role: history.Leader, Term: 2,
		Size: 30_000_000, Quota: 30_000_000, Full: true}, began.Add(21*time.Second))
	return record
}

// TestReplayOfAClass shows what a class once did, at its end and before.
func TestReplayOfAClass(t *testing.T) {
	t.Parallel()
	record := plantedClass(t)
	b := must[*Board](t)(Start(t.Context(), Config{Saved: record, Root: "../..", Address: "127.0.0.1:0"}))
	t.Cleanup(func() { must[int](t)(0, b.Close()) })
	base := "http://" + b.Address()
	_, page := get(t, base+"/")
	for _, want := range []string{
		`data-learner="ann" data-may="reset free remove" data-state="here"`, `<td>02-put</td><td title="01-connect ">1/9</td><td>3</td>`,
		`data-learner="bob" data-may="reset free remove" data-state="away"`, `data-learner="class" data-may="reset"`,
		"<bdi>ann</bdi> has the lock of the class", "class:/cron/lock/job9</bdi> since 12:00:07", "At most 1 wait.",
		"Database 30 MB of 30 MB", "The database is full", "ann has written most",
		// The panel of locks: that of all, and that of ann, who wrote in time.
		"<bdi>ann</bdi> has it", "<bdi>ann&#39;s own</bdi> has it",
		"Stale write went through @ 9", "token 3; the lock's is 7", "<strong>1</strong> here, <strong>1</strong> away",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if count := strings.Count(page, "Stale write"); count != 1 {
		t.Errorf("there are %d stale writes", count)
	}
	// The leases' panel has those of the lock and of those who wait.
	if count := strings.Count(page, `" class="lease"><p>`); count != 3 {
		t.Errorf("there are %d leases", count)
	}
	if strings.Contains(page, "in a queue</bdi> has the lock of the class") {
		t.Error("one who waits in a queue has the lock")
	}
	for _, bad := range []string{"data-post", "data-action", `id="ask"`} {
		if strings.Contains(page, bad) {
			t.Errorf("of what is past, the page has %q", bad)
		}
	}
	past := momentOf(t, b, "rev=6")
	for _, want := range []string{`data-state="here"`, "<td>08-txn-lock</td>", "The lock of the class is free."} {
		if !strings.Contains(past, want) {
			t.Errorf("at revision 6 the page lacks %q:\n%s", want, past)
		}
	}
	if desk := momentOf(t, b, "rev=4"); !strings.Contains(desk, "There is no lease but those of desks: 1.") {
		t.Errorf("at revision 4, with one desk:\n%s", desk)
	}
	if before := momentOf(t, b, "rev=3"); strings.Contains(before, `data-state="here"`) || strings.Contains(before, "02-put") {
		t.Errorf("at revision 3, the page has what came later:\n%s", before)
	}
	// One who is opened has a timeline of their own.
	_, text := get(t, base+"/moment?prefix=ann:")
	for _, panel := range decode(t, text).Panels {
		if drawn := string(panel.HTML); panel.ID == panelTimeline && (strings.Count(drawn, `class="rev"`) != 3 || !strings.Contains(drawn, "data-packed") ||
			!strings.Contains(drawn, "ann&#39;s own has the lock, token 5")) {
			t.Errorf("the timeline of ann:\n%s", drawn)
		}
	}

	// What is of no class has none of it.
	single, _ := planted(t)
	other := must[*Board](t)(Start(t.Context(), Config{Saved: single, Root: "../..", Address: "127.0.0.1:0"}))
	t.Cleanup(func() { must[int](t)(0, other.Close()) })
	if _, page := get(t, "http://"+other.Address()+"/"); strings.Contains(strings.ToLower(page), "roster") || strings.Contains(page, "class.css") {
		t.Error("a board of no class shows a roster")
	}
}

// TestRefusedInAClass takes in what a lesson that runs on the board prints: its keys are
// the teacher's.
func TestRefusedInAClass(t *testing.T) {
	record := history.New(history.Limits{}, 1, []*history.KeyValue{
		{Key: "teacher:/cron/lock/job9", Value: "bob", Create: 5, Mod: 5, Version: 1},
		{Key: "/cron/lock/job9", Value: "eve", Create: 6, Mod: 6, Version: 1},
	}, time.Now())
	s := scene{record: record, moment: record.Present(), roster: class.NewRoster(record)}
	if r, told := s.refused("put /cron/jobs/job9: token 3 is stale, the lock was lost"); !told || r.Current != 5 {
		t.Errorf("%t, %+v", told, r)
	}
}

// acts is a class that takes note of what is done to it.
type acts struct {
	mu   sync.Mutex
	done []string
}

func (a *acts) note(what string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done = append(a.done, what)
	if strings.HasSuffix(what, " eve") {
		return errors.New("eve: nobody has that name")
	}
	return nil
}

func (a *acts) Remove(_ context.Context, name string) error { return a.note("remove " + name) }
func (a *acts) Free(_ context.Context, name string) error   { return a.note("free " + name) }
func (a *acts) Reset(_ context.Context, name string) (int64, error) {
	return 0, a.note("reset " + name)
}
func (a *acts) Room(context.Context) error { return a.note("room") }

// TestClassSafety holds who may act on a class, and how.
func TestClassSafety(t *testing.T) {
	t.Parallel()
	plain, _, etcd := start(t, 1)
	config, acted := plain.config, &acts{}
	config.Class = acted
	b := must[*Board](t)(Start(t.Context(), config))
	t.Cleanup(func() { must[int](t)(0, b.Close()) })
	do := func(method, address, path string, header map[string]string) int {
		t.Helper()
		request := must[*http.Request](t)(http.NewRequest(method, "http://"+address+path, nil))
		for name, value := range header {
			request.Header.Set(name, value)
		}
		answer := must[*http.Response](t)(http.DefaultClient.Do(request))
		answer.Body.Close()
		return answer.StatusCode
	}
	for _, path := range []string{"/class/remove/ann", "/class/free/ann", "/class/reset/ann", "/class/room"} {
		for _, c := range []struct {
			method, address string
			header          map[string]string
			want            int
		}{
			{"GET", b.Address(), nil, 405},
			{"POST", b.Public(), nil, 403},
			{"POST", b.Address(), map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
			{"POST", b.Address(), map[string]string{"Origin": "http://" + b.Public()}, 403},
			{"POST", plain.Address(), nil, 404},
		} {
			if got := do(c.method, c.address, path, c.header); got != c.want {
				t.Errorf("%s %s %v: %d, want %d", c.method, path, c.header, got, c.want)
			}
		}
	}
	for path, want := range map[string]int{"/class/eat/ann": 404, "/class/remove": 404, "/class/room/ann": 404,
		"/member/leader/eat": 404} {
		if got := do("POST", b.Address(), path, nil); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if len(acted.done) > 0 {
		t.Fatalf("it was done: %v", acted.done)
	}
	want := []string{"remove ann", "free ann", "reset class", "room", "reset eve"}
	for i, path := range []string{"/class/remove/ann", "/class/free/ann", "/class/reset/class", "/class/room", "/class/reset/eve"} {
		status := 204
		if i == 4 {
			status = 409
		}
		if got := do("POST", b.Address(), path, nil); got != status {
			t.Errorf("%s: %d, want %d", path, got, status)
		}
	}
	if !slices.Equal(acted.done, want) {
		t.Errorf("done was %v, want %v", acted.done, want)
	}
	etcdtest.Eventually(t, "a member leads", func() bool { return leader(b.present().moment) != "" })
	if got := do("POST", b.Address(), "/member/leader/kill", nil); got != 204 || etcd.Members[0].PID() != 0 {
		t.Errorf("the leader is killed: %d, process %d", got, etcd.Members[0].PID())
	}
	etcdtest.Eventually(t, "no member leads", func() bool { return leader(b.present().moment) == "" })
	if got := do("POST", b.Address(), "/member/leader/kill", nil); got != 409 {
		t.Errorf("with no leader: %d", got)
	}
	if _, page := get(t, fmt.Sprintf("http://%s/", b.Address())); !strings.Contains(page, `id="ask"`) || !strings.Contains(page, `data-action="remove"`) {
		t.Error("the teacher has no handles")
	}
	if _, page := get(t, fmt.Sprintf("http://%s/", b.Public())); strings.Contains(page, "data-post") || strings.Contains(page, "data-action") || strings.Contains(page, `id="ask"`) {
		t.Error("a guest has handles")
	}
}
