package board

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
)

func TestMain(m *testing.M) { etcdtest.Main(m, nil) }

// start starts an etcd and a board that shows it.
func start(t testing.TB, members int) (*Board, *clientv3.Client, *cluster.Cluster) {
	t.Helper()
	etcd := etcdtest.Etcd(t, cluster.Config{Members: members})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	config := etcd.Client()
	b, err := Start(context.Background(), Config{Etcd: &config, Cluster: etcd,
		Root: "../..", Env: os.Environ(), Address: "127.0.0.1:0", Public: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	etcdtest.Eventually(t, "the board has read etcd", func() bool { return b.seenRevision() > 0 })
	return b, client, etcd
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func (b *Board) seenRevision() int64 { return b.source.Record().Last() }

// present returns what is known by now.
func (b *Board) present() scene {
	record := b.source.Record()
	return b.scene(record, record.Present())
}

// kinds returns what happened to a key, in order.
func kinds(b *Board, key string) string {
	record := b.source.Record()
	changes, err := record.Changes(record.First()+1, record.Last())
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, c := range changes {
		if c.Key == key {
			list = append(list, string(drawing.KindOf(c)))
		}
	}
	return strings.Join(list, " ")
}

// momentOf returns what the board answers for a moment.
func momentOf(t testing.TB, b *Board, query string) string {
	t.Helper()
	code, text := get(t, "http://"+b.Address()+"/moment?"+query)
	if code != http.StatusOK {
		t.Fatal(query, code, text)
	}
	var all strings.Builder
	for _, panel := range decode(t, text).Panels {
		if panel.ID != panelTimeline { // It also shows what came later.
			all.WriteString(string(panel.HTML))
		}
	}
	return all.String()
}

func decode(t testing.TB, text string) (moment momentView) {
	t.Helper()
	must[int](t)(0, json.Unmarshal([]byte(text), &moment))
	return moment
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	answer := must[*http.Response](t)(http.Get(url))
	defer answer.Body.Close()
	return answer.StatusCode, string(must[[]byte](t)(io.ReadAll(answer.Body)))
}

func TestChanges(t *testing.T) {
	t.Parallel()
	b, client, _ := start(t, 1)
	ctx := t.Context()
	must[*clientv3.PutResponse](t)(client.Put(ctx, "/a", "one"))
	must[*clientv3.PutResponse](t)(client.Put(ctx, "/a", "two"))
	txn := must[*clientv3.TxnResponse](t)(client.Txn(ctx).Then(clientv3.OpDelete("/a"),
		clientv3.OpPut("/b", "three"), clientv3.OpPut("/c", `{"x":[1]}`)).Commit())
	revision := txn.Header.Revision
	etcdtest.Eventually(t, "the transaction was seen", func() bool { return b.seenRevision() == revision })
	if got := kinds(b, "/a"); got != "created put deleted" {
		t.Error("/a:", got)
	}
	drawn := string(b.present().timeline(false, 0))
	column := drawn[strings.Index(drawn, fmt.Sprintf(`data-rev="%d"`, revision)):]
	column = column[:strings.Index(column, "\n")]
	if strings.Count(column, "data-kind") != 3 || !strings.Contains(column, `class="txn"`) {
		t.Errorf("the transaction is drawn as %s", column)
	}
	code, text := get(t, fmt.Sprintf("http://%s/change?rev=%d", b.Address(), revision))
	if code != 200 || !strings.Contains(text, "one transaction of 3 changes") ||
		!strings.Contains(text, `<bdi class="old">two</bdi>`) {
		t.Error(code, text)
	}
	_, text = get(t, fmt.Sprintf("http://%s/moment?rev=%d", b.Address(), revision-1))
	panels := decode(t, text).Panels
	text = string(panels[len(panels)-1].HTML) // the table of keys
	if !strings.Contains(text, "two") || strings.Contains(text, "three") {
		t.Error("before the transaction:", text)
	}
	if table := b.present().table(&b.rows); len(table.Rows) != 2 || table.Further != 0 {
		t.Errorf("now: %+v", table)
	}
}

// planted returns the record of a lock that was lost by expiry and taken by another,
// while three keys are put again and again. A second passes with each revision.
func planted(t testing.TB) (*history.Record, time.Time) {
	began := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	at := func(revision int64) time.Time { return began.Add(time.Duration(revision) * time.Second) }
	record := history.New(history.Limits{}, 1, nil, at(1))
	versions := map[string]history.KeyValue{}
	add := func(revision int64, puts ...history.Put) {
		for i := range puts {
			kv := &puts[i]
			old := versions[kv.Key]
			if kv.Mod = revision; kv.Version >= 0 {
				kv.Version, kv.Create = old.Version+1, old.Create
				if old.Version == 0 {
					kv.Create = revision
				}
			} else {
				kv.Version = 0
			}
			versions[kv.Key] = *kv
		}
		must[int](t)(0, record.Append(puts, at(revision)))
	}
	look := func(second int64, lease, remaining int64) {
		record.Look(history.Look{Lease: lease, Asked: at(second), Answered: at(second), TTL: 5, Remaining: remaining, Term: 2})
	}
	record.Member(history.Member{Name: "etcd1", Endpoint: "a", ID: 1, Role: history.Leader, Term: 2}, at(1))
	add(2, history.Put{Key: lockPrefix + "job9", Value: "alice", Lease: 7})
	look(3, 7, 4)
	add(3, history.Put{Key: "/a", Value: "1"}, history.Put{Key: "/b", Value: "1"})
	for revision := int64(4); revision < 9; revision++ {
		add(revision, history.Put{Key: "/a", Value: fmt.Sprint(revision)})
	}
	record.Member(history.Member{Name: "etcd1", Endpoint: "a", ID: 1, Role: history.Unreachable, Term: 2}, at(6))
	add(9, history.Put{Key: lockPrefix + "job9", Version: -1})
	look(10, 7, -1)
	record.Settle(7, history.Expired)
	add(10, history.Put{Key: lockPrefix + "job9", Value: "bob", Lease: 8})
	look(11, 8, 4)
	add(11, history.Put{Key: jobPrefix + "job9", Value: "done by alice, token 2"})
	return record, began
}

// TestReplay shows a saved history, at its end and before.
func TestReplay(t *testing.T) {
	t.Parallel()
	record, began := planted(t)
	b := must[*Board](t)(Start(t.Context(), Config{Saved: record, Root: "../..", Address: "127.0.0.1:0"}))
	t.Cleanup(func() { must[int](t)(0, b.Close()) })
	_, page := get(t, "http://"+b.Address()+"/")
	for _, want := range []string{"of a saved history", "bob</bdi> has it", "alice</bdi>, token 2: lost, its lease expired @ 9",
		"Stale write went through @ 11", "not reachable"} {
		if !strings.Contains(page, want) {
			t.Errorf("at its end the page lacks %q", want)
		}
	}
	if strings.Contains(page, "data-post") || strings.Contains(page, "data-do") {
		t.Error("there are handles")
	}
	answer := must[*http.Response](t)(http.Post("http://"+b.Address()+"/lesson/02-put/run?slot=1", "", nil))
	answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Error("a lesson can be run:", answer.Status)
	}
	for _, query := range []string{"rev=5", fmt.Sprint("time=", began.Add(5900*time.Millisecond).UnixMilli())} {
		past := momentOf(t, b, query)
		for _, want := range []string{"alice</bdi> has it", "of 5 s", `<bdi>5</bdi>`, "leader"} {
			if !strings.Contains(past, want) {
				t.Errorf("at %s the page lacks %q:\n%s", query, want, past)
			}
		}
		for _, bad := range []string{"bob", "Stale", "its lease expired", "not reachable"} {
			if strings.Contains(past, bad) {
				t.Errorf("at %s the page has %q from later", query, bad)
			}
		}
	}
	// Between two revisions, time passes for leases and members.
	if early, late := momentOf(t, b, fmt.Sprint("time=", began.Add(6100*time.Millisecond).UnixMilli())),
		momentOf(t, b, fmt.Sprint("time=", began.Add(6900*time.Millisecond).UnixMilli())); early == late {
		t.Error("the lease does not run down between two revisions")
	}
	for query, want := range map[string]string{"rev=12": "Revision 12 is in the future", "time=5": "does not know that time"} {
		if text := momentOf(t, b, query); !strings.Contains(text, want) {
			t.Errorf("%s: %s", query, text)
		}
	}
}

// TestWindow asks for a drawing of the past twice, with much that happens in between,
// and tells more than seven keys apart.
func TestWindow(t *testing.T) {
	t.Parallel()
	record, _ := planted(t)
	draw := func(revision int64, prefix string) string {
		moment := must[*history.Moment](t)(record.At(revision))
		return string(scene{record: record, moment: moment, prefix: prefix}.timeline(true, 0))
	}
	for revision := record.Last() + 1; revision < 60; revision++ {
		put := history.Put{Key: fmt.Sprint("/k/", 10+revision%20), Mod: revision, Create: revision, Version: 1}
		if old := record.Present().Get(put.Key); old != nil {
			put.Create, put.Version = old.Create, old.Version+1
		}
		must[int](t)(0, record.Append([]history.Put{put}, time.Now()))
	}
	before := draw(20, "")
	for _, key := range []string{"/a", "/k/10", "/k/29"} {
		if !strings.Contains(before, "<title>"+key+"</title>") {
			t.Errorf("of 24 keys, %s has no lane:\n%s", key, before)
		}
	}
	if some := draw(20, "/k/1"); strings.Contains(some, "/k/2") || !strings.Contains(some, "/k/19") {
		t.Errorf("the keys that begin with /k/1 are drawn so:\n%s", some)
	}
	for revision := record.Last() + 1; revision < 200; revision++ {
		must[int](t)(0, record.Append([]history.Put{{Key: fmt.Sprint("/new/", revision), Mod: revision, Create: revision, Version: 1}}, time.Now()))
	}
	if after := draw(20, ""); after != before {
		t.Errorf("the drawing was\n%s\nand is\n%s", before, after)
	}
}

func TestHowAKeyWithALeaseEnds(t *testing.T) {
	t.Parallel()
	b, client, _ := start(t, 1)
	ctx := t.Context()
	grant := func(ttl int64, keys ...string) clientv3.LeaseID {
		lease := must[*clientv3.LeaseGrantResponse](t)(client.Grant(ctx, ttl))
		for _, key := range keys {
			must[*clientv3.PutResponse](t)(client.Put(ctx, key, "v", clientv3.WithLease(lease.ID)))
		}
		return lease.ID
	}
	grant(2, "/expires", "/expires too")
	revoked := grant(60, "/revoked", lockPrefix+"job9")
	deleted := grant(60, "/deleted", "/stays")
	etcdtest.Eventually(t, "the leases are known", func() bool {
		count := 0
		for _, l := range b.present().moment.Leases() {
			if l.TTL > 0 {
				count++
			}
		}
		return count == 3
	})
	must[*clientv3.DeleteResponse](t)(client.Delete(ctx, "/deleted"))
	must[*clientv3.LeaseRevokeResponse](t)(client.Revoke(ctx, revoked))
	for key, want := range map[string]string{
		"/revoked": "created revoked", "/deleted": "created deleted",
		"/expires": "created expired", "/expires too": "created expired",
	} {
		etcdtest.Eventually(t, key+" "+want, func() bool { return kinds(b, key) == want })
	}
	lock := b.present().lock(nil)
	if len(lock.Former) != 1 || lock.Former[0].How != "released" || lock.Former[0].Name != "v" {
		t.Errorf("the lock: %+v", lock)
	}
	must[*clientv3.LeaseRevokeResponse](t)(client.Revoke(ctx, deleted))
	etcdtest.Eventually(t, "/stays went with its lease", func() bool { return kinds(b, "/stays") == "created revoked" })
	if got := kinds(b, "/deleted"); got != "created deleted" {
		t.Error("/deleted, whose lease was revoked later:", got)
	}
}

func TestDeletionBeforeItsLeaseEnds(t *testing.T) {
	t.Parallel()
	b, client, _ := start(t, 1)
	lease := must[*clientv3.LeaseGrantResponse](t)(client.Grant(t.Context(), 60))
	must[*clientv3.PutResponse](t)(client.Put(t.Context(), "/only", "v", clientv3.WithLease(lease.ID)))
	must[*clientv3.DeleteResponse](t)(client.Delete(t.Context(), "/only"))
	etcdtest.Eventually(t, "the deletion was seen", func() bool { return kinds(b, "/only") == "created deleted" })
	// All leases are asked for at once, again and again. When two that are granted one
	// after the other are known, all has been heard of the first of these rounds.
	for n := range 2 {
		must[*clientv3.LeaseGrantResponse](t)(client.Grant(t.Context(), 60))
		etcdtest.Eventually(t, "the next lease is known", func() bool {
			leases := b.present().moment.Leases()
			return len(leases) == n+2 && leases[n+1].TTL == 60
		})
	}
	must[*clientv3.LeaseRevokeResponse](t)(client.Revoke(t.Context(), lease.ID))
	etcdtest.Eventually(t, "the lease is gone", func() bool {
		return len(b.source.Record().EndedLeases()) == 1
	})
	if got := kinds(b, "/only"); got != "created deleted" {
		t.Error("after the lease was revoked:", got)
	}
}

func TestStaleWrites(t *testing.T) {
	t.Parallel()
	b, client, _ := start(t, 1)
	ctx := t.Context()
	put := must[*clientv3.PutResponse](t)(client.Put(ctx, lockPrefix+"job9", "bob"))
	token := put.Header.Revision
	must[*clientv3.PutResponse](t)(client.Put(ctx, jobPrefix+"job9", fmt.Sprintf("done by bob, token %d", token)))
	stale := must[*clientv3.PutResponse](t)(client.Put(ctx, jobPrefix+"job9", "done by alice, token 1"))
	etcdtest.Eventually(t, "all was seen", func() bool { return b.seenRevision() == stale.Header.Revision })
	b.note("08-txn-lock: put /cron/jobs/job9: token 1 is stale, the lock was lost")
	b.note("08-txn-lock: put /cron/jobs/job9: nothing of interest")
	view := b.present().lock(b.told())
	if len(view.Refused) != 2 {
		t.Fatalf("stale writes: %+v", view.Refused)
	}
	if r := view.Refused[0]; r.Token != 1 || r.Current != token || r.Revision != 0 {
		t.Errorf("the refused one: %+v", r)
	}
	if r := view.Refused[1]; r.Revision != stale.Header.Revision || r.Who != "alice" || r.Current != token {
		t.Errorf("the one that went through: %+v", r)
	}
}

func TestCompaction(t *testing.T) {
	t.Parallel()
	b, client, _ := start(t, 1)
	ctx := t.Context()
	for i := range 5 {
		must[*clientv3.PutResponse](t)(client.Put(ctx, "/k", fmt.Sprint(i)))
	}
	must[*clientv3.CompactResponse](t)(client.Compact(ctx, 4))
	etcdtest.Eventually(t, "all was seen", func() bool { return b.seenRevision() == 6 })
	for revision, want := range map[int]string{
		3: "Revision 3 was compacted", 99: "Revision 99 is in the future"} {
		if text := momentOf(t, b, fmt.Sprint("rev=", revision)); !strings.Contains(text, want) {
			t.Error(text)
		}
	}
}

func TestLostEtcd(t *testing.T) {
	t.Parallel()
	b, client, etcd := start(t, 1)
	ctx := t.Context()
	for range 10 {
		must[*clientv3.PutResponse](t)(client.Put(ctx, "/old", "v"))
	}
	etcdtest.Eventually(t, "all was seen", func() bool { return b.seenRevision() == 11 })
	troubled := func() bool { return b.source.Trouble() != nil }
	must[int](t)(0, etcd.Members[0].Kill())
	etcdtest.Eventually(t, "the loss is shown", troubled)
	must[int](t)(0, etcd.Members[0].Start(ctx))
	etcdtest.Eventually(t, "the recovery is shown", func() bool { return !troubled() })
	must[*clientv3.PutResponse](t)(client.Put(ctx, "/old", "w"))
	etcdtest.Eventually(t, "the watch went on", func() bool { return b.seenRevision() == 12 })
	if changes, err := b.source.Record().Changes(5, 5); err != nil || len(changes) != 1 {
		t.Error("the history was lost with a restart")
	}
	// The same member with an empty store is another store, although its
	// revision has passed the last one that was seen.
	must[int](t)(0, etcd.Members[0].Kill())
	must[int](t)(0, os.RemoveAll(etcd.Members[0].Data))
	must[int](t)(0, etcd.Members[0].Start(ctx))
	for range 20 {
		must[*clientv3.PutResponse](t)(client.Put(ctx, "/new", "v"))
	}
	etcdtest.Eventually(t, "the new store is shown", func() bool {
		moment := b.present().moment
		return moment.Revision == 21 && moment.Get("/old") == nil && moment.Get("/new") != nil
	})
}

// TestReset empties the store of one member and of three, and makes in the new one
// as many changes as there were in the old one, and more.
func TestReset(t *testing.T) {
	t.Parallel()
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			if members > 1 {
				etcdtest.NeedsLong(t, "three members")
			}
			t.Parallel()
			b, client, etcd := start(t, members)
			ctx := t.Context()
			for i := range 8 {
				must[*clientv3.PutResponse](t)(client.Put(ctx, "/antique", fmt.Sprint("antique ", i)))
			}
			must[*clientv3.PutResponse](t)(client.Put(ctx, lockPrefix+"antique", "antique holder"))
			must[*clientv3.DeleteResponse](t)(client.Delete(ctx, lockPrefix+"antique"))
			lease := must[*clientv3.LeaseGrantResponse](t)(client.Grant(ctx, 600))
			must[*clientv3.PutResponse](t)(client.Put(ctx, "/antique lease", "v", clientv3.WithLease(lease.ID)))
			etcdtest.Eventually(t, "all was seen", func() bool {
				_, page := get(t, "http://"+b.Address()+"/")
				return b.seenRevision() == 12 && strings.Contains(page, leaseName(int64(lease.ID)))
			})
			for _, changes := range []int{11, 30, 0, 5} {
				must[int](t)(0, etcd.Reset(ctx))
				again := must[*clientv3.Client](t)(clientv3.New(
					clientv3.Config{Endpoints: etcd.Endpoints(), Logger: zap.NewNop()}))
				for i := range changes {
					must[*clientv3.PutResponse](t)(again.Put(ctx, "/new", fmt.Sprint("new ", i)))
				}
				again.Close()
				shown := func() string {
					var all strings.Builder
					for _, path := range []string{"/", "/moment?rev=12", "/change?rev=12", "/moment?rev=2"} {
						_, text := get(t, "http://"+b.Address()+path)
						all.WriteString(text)
					}
					return all.String()
				}
				old := func(page string) bool {
					return strings.Contains(page, "antique") || strings.Contains(page, leaseName(int64(lease.ID)))
				}
				// Its panels follow one after the other.
				etcdtest.Eventually(t, "the new store alone is shown", func() bool {
					page := shown()
					return b.seenRevision() == int64(changes)+1 && !old(page) &&
						strings.Contains(page, fmt.Sprintf(`<output id="revision">%d</output>`, changes+1))
				})
				// What was asked of the old store may come in late.
				for end := time.Now().Add(time.Second); time.Now().Before(end); {
					if page := shown(); old(page) {
						t.Fatalf("after %d changes the old store is shown:\n%s", changes, page[strings.Index(page, `<div id="etcd">`):])
					}
				}
				for revision := range changes {
					made, err := b.source.Record().Changes(int64(revision+2), int64(revision+2))
					if err != nil || len(made) != 1 || made[0].After.Value != fmt.Sprint("new ", revision) {
						t.Fatalf("of %d changes, that at %d is shown as %v, %v", changes, revision+2, made, err)
					}
				}
				if table := b.present().table(&b.rows); len(table.Rows) != min(changes, 1) {
					t.Errorf("after %d changes there are %d rows", changes, len(table.Rows))
				}
				if leases := b.present().leases(); len(leases.Leases) != 0 {
					t.Errorf("leases: %v", leases)
				}
			}
		})
	}
}

func TestFallenLeader(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	b, _, etcd := start(t, 3)
	leader := func() string {
		for _, m := range b.present().members(true).Members {
			if m.Leads() {
				return m.Name
			}
		}
		return ""
	}
	etcdtest.Eventually(t, "there is a leader", func() bool { return leader() != "" })
	first := leader()
	answer := must[*http.Response](t)(http.Post("http://"+b.Address()+"/member/"+first+"/kill", "", nil))
	answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		t.Fatal(answer.Status)
	}
	etcdtest.Eventually(t, "another leads", func() bool { return leader() != "" && leader() != first })
	client := must[*clientv3.Client](t)(clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints(), Logger: zap.NewNop()}))
	defer client.Close()
	put := must[*clientv3.PutResponse](t)(client.Put(t.Context(), "/after", "v"))
	etcdtest.Eventually(t, "the watch goes on", func() bool { return b.seenRevision() == put.Header.Revision })
	// It also does when the member that the watch may be at is paused.
	must[int](t)(0, b.act(first, "restart"))
	etcdtest.Eventually(t, "all answer", func() bool {
		for _, m := range b.present().members(true).Members {
			if !m.Alive() {
				return false
			}
		}
		return true
	})
	must[int](t)(0, b.act(leader(), "pause"))
	var last int64
	etcdtest.Eventually(t, "a put succeeds", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		put, err := client.Put(ctx, "/paused", "v")
		if err == nil {
			last = put.Header.Revision
		}
		return err == nil
	})
	paused := time.Now()
	etcdtest.Eventually(t, "the watch goes on", func() bool { return b.seenRevision() >= last })
	t.Log("the watch went on after", time.Since(paused))
}

// events reads a viewer's stream, event by event.
func events(t testing.TB, address string) (next func() (string, string)) {
	t.Helper()
	answer := must[*http.Response](t)(http.Get("http://" + address + "/events"))
	t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 8<<20)
	return func() (string, string) {
		t.Helper()
		var event string
		for lines.Scan() {
			if name, found := strings.CutPrefix(lines.Text(), "event: "); found {
				event = name
			} else if data, found := strings.CutPrefix(lines.Text(), "data: "); found {
				return event, data
			}
		}
		t.Fatal("the stream has ended: ", lines.Err())
		return "", ""
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	b, client, _ := start(t, 1)
	next := events(t, b.Address())
	event, data := next()
	var snapshot struct{ Panels []fragment }
	if err := json.Unmarshal([]byte(data), &snapshot); event != "snapshot" || err != nil {
		t.Fatal(event, data, err)
	}
	if len(snapshot.Panels) != len(b.every())+6 { // The two terminals come along.
		t.Errorf("the snapshot has %d panels", len(snapshot.Panels))
	}
	put := must[*clientv3.PutResponse](t)(client.Put(t.Context(), "/seen", "here"))
	revision, row := false, false
	for !revision || !row {
		event, data := next()
		if event != "update" {
			continue
		}
		var panels []fragment
		if err := json.Unmarshal([]byte(data), &panels); err != nil {
			t.Fatal(err)
		}
		for _, panel := range panels {
			revision = revision || panel.ID == "revision" && string(panel.HTML) == fmt.Sprint(put.Header.Revision)
			row = row || panel.ID == "keys" && strings.Contains(string(panel.HTML), "/seen")
		}
	}
}

func TestSlowViewer(t *testing.T) {
	t.Parallel()
	v := &viewer{wake: make(chan struct{}, 1)}
	for i := range 1000 {
		v.add(message{do: "replace", id: "keys", own: make([]byte, 10_000), guest: nil})
		v.add(message{do: "append", id: "output", own: []byte{byte(i)}})
	}
	messages, missed := v.take()
	if missed || len(messages) != 1001 || v.size != 0 {
		t.Errorf("of 1000 replacements and additions %d are left, missed %t", len(messages), missed)
	}
	for range 1000 {
		v.add(message{do: "append", id: "output", own: make([]byte, 10_000)})
	}
	if messages, missed := v.take(); !missed || len(messages) != 0 {
		t.Errorf("of too much, %d messages are left, missed %t", len(messages), missed)
	}
	v.add(message{do: "append", id: "output", own: []byte("x")})
	if messages, missed := v.take(); missed || len(messages) != 1 {
		t.Error("after the snapshot it does not go on")
	}
}

func TestTooManyViewers(t *testing.T) {
	t.Parallel()
	b, _, _ := start(t, 1)
	for range maxViewers {
		events(t, b.Address())()
	}
	code, text := get(t, "http://"+b.Address()+"/events")
	if code != http.StatusServiceUnavailable || !strings.Contains(text, "100 browsers") {
		t.Error(code, text)
	}
	events(t, b.Public())() // A guest still may.
}

func TestSafety(t *testing.T) {
	t.Parallel()
	b, _, etcd := start(t, 1)
	_, port, _ := strings.Cut(b.Address(), ":")
	for _, test := range []struct {
		method, address, path string
		header                map[string]string
		want                  int
	}{
		{"GET", b.Address(), "/", nil, 200},
		{"GET", b.Address(), "/", map[string]string{"Host": "localhost:" + port}, 200},
		{"GET", b.Address(), "/", map[string]string{"Host": "[::1]:" + port}, 200},
		{"GET", b.Address(), "/", map[string]string{"Host": "evil.example:" + port}, 421},
		{"GET", b.Address(), "/", map[string]string{"Host": "127.0.0.1:1"}, 200}, // through a tunnel
		{"GET", b.Address(), "/", map[string]string{"Host": "localhost"}, 200},
		{"GET", b.Address(), "/", map[string]string{"Host": "[::1]"}, 200},
		{"GET", b.Address(), "/", map[string]string{"Host": "localhost.evil.example"}, 421},
		{"GET", b.Address(), "/", map[string]string{"Host": "192.168.1.5:" + port}, 421},
		{"GET", b.Address(), "/events", map[string]string{"Host": "evil.example:" + port}, 421},
		{"GET", b.Address(), "/none", nil, 404},
		{"GET", b.Address(), "/assets/page.html", nil, 404},
		{"GET", b.Address(), "/moment?rev=0", nil, 400},
		{"GET", b.Address(), "/moment?rev=99999999999999999999", nil, 400},
		{"GET", b.Address(), "/moment?time=x", nil, 400},
		{"GET", b.Address(), "/moment?time=-9223372036854775808", nil, 200},
		{"GET", b.Address(), "/moment?time=9223372036854775807", nil, 200},
		{"GET", b.Address(), "/moment?rev=9223372036854775807&end=-9223372036854775808", nil, 200},
		{"GET", b.Address(), "/moment?rev=1&end=9223372036854775807", nil, 200},
		{"GET", b.Address(), "/change?rev=x", nil, 400},
		{"GET", b.Address(), "/value?rev=1&key=!", nil, 400},
		{"POST", b.Address(), "/moment?rev=1", nil, 405},
		{"GET", b.Address(), "/member/etcd1/kill", nil, 405},
		{"POST", b.Address(), "/member/etcd9/kill", nil, 404},
		{"POST", b.Address(), "/member/etcd1/eat", nil, 404},
		{"POST", b.Address(), "/member/etcd1/kill", map[string]string{"Origin": "http://evil.example"}, 403},
		{"POST", b.Address(), "/member/etcd1/kill", map[string]string{"Origin": "http://localhost:1"}, 403},
		{"POST", b.Address(), "/member/etcd9/kill", map[string]string{"Host": "localhost:1", "Origin": "http://localhost:1"}, 404},
		{"POST", b.Address(), "/member/etcd1/kill", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"POST", b.Address(), "/member/etcd1/kill", map[string]string{"Host": "evil.example"}, 421},
		{"GET", b.Public(), "/", nil, 200},
		{"GET", b.Public(), "/", map[string]string{"Host": "evil.example"}, 421},
		{"POST", b.Public(), "/member/etcd1/kill", nil, 403},
		{"POST", b.Public(), "/lesson/try", nil, 403},
		{"DELETE", b.Public(), "/", nil, 403},
	} {
		request := must[*http.Request](t)(http.NewRequest(test.method, "http://"+test.address+test.path, nil))
		for name, value := range test.header {
			request.Header.Set(name, value)
		}
		if host := test.header["Host"]; host != "" {
			request.Host = host
		}
		answer := must[*http.Response](t)(http.DefaultClient.Do(request))
		text := must[[]byte](t)(io.ReadAll(answer.Body))
		answer.Body.Close()
		if test.want == 421 && !strings.Contains(string(text), "open localhost at the port") {
			t.Errorf("a name that is refused has no way out: %s", text)
		}
		if answer.StatusCode != test.want {
			t.Errorf("%s %s%s %v: %s, want %d", test.method, test.address, test.path,
				test.header, answer.Status, test.want)
		}
		policy := answer.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s has the policy %q", test.path, policy)
		}
	}
	if etcd.Members[0].PID() == 0 {
		t.Error("the member was killed")
	}
	_, own := get(t, "http://"+b.Address()+"/")
	_, guest := get(t, "http://"+b.Public()+"/")
	if !strings.Contains(own, "data-post") || strings.Contains(guest, "data-post") {
		t.Error("the handles are not for those, and only those, who may use them")
	}
	if strings.Contains(own, "style=") || strings.Contains(own, "<script>") {
		t.Error("the page has what its policy forbids")
	}
	if _, err := Start(t.Context(), Config{Etcd: &clientv3.Config{Endpoints: []string{"127.0.0.1:1"},
		Logger: zap.NewNop()}, Address: "0.0.0.0:0"}); err == nil {
		t.Error("it listens for changes on all addresses")
	}
}

// hostile are keys and values that somebody may have written.
var hostile = []string{
	`<script>alert(1)</script>`, `"><svg onload=alert(1)>`, `' onmouseover='alert(1)`,
	"\xff\xfe", "\u202eright to left", "nul\x00 and \x1b[31m", `</textarea>{{.}}`,
	strings.Repeat("long", 5000), "javascript:alert(1)", "\n\n", "עברית",
}

func TestHostileText(t *testing.T) {
	t.Parallel()
	b, client, _ := start(t, 1)
	ctx := t.Context()
	for _, text := range hostile {
		must[*clientv3.PutResponse](t)(client.Put(ctx, text, text))
		must[*clientv3.PutResponse](t)(client.Put(ctx, lockPrefix+text, text))
		must[*clientv3.PutResponse](t)(client.Put(ctx, jobPrefix+text, "done by <script>alert(1)</script>, token 1"))
	}
	last := must[*clientv3.DeleteResponse](t)(client.Delete(ctx, lockPrefix, clientv3.WithPrefix())).Header.Revision
	etcdtest.Eventually(t, "all was seen", func() bool { return b.seenRevision() == last })
	base := "http://" + b.Address()
	paths := []string{"/"}
	for revision := range last {
		paths = append(paths, fmt.Sprintf("/change?rev=%d", revision+1),
			fmt.Sprintf("/moment?rev=%d", revision+1))
	}
	for _, path := range paths {
		_, page := get(t, base+path)
		for _, bad := range []string{"<script>", "<svg onload", "' onmouseover", "</textarea>",
			"\u202e", "\x00", "\x1b", "\xff"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s holds %q", path, bad)
			}
		}
	}
	if _, page := get(t, base+"/"); !strings.Contains(page, "&lt;script&gt;alert(1)") ||
		!strings.Contains(page, "⟨U&#43;202E⟩right to left") {
		t.Error("the page does not show them as text")
	}
}
