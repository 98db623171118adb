package history_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/history"
)

// TestLeases tells records what was heard of one lease of 10 s, and looks at what
// they know of it then.
func TestLeases(t *testing.T) {
	const id = 7
	type story func(r *history.Record)
	look := func(asked, took float64, remaining int64) story {
		return func(r *history.Record) {
			r.Look(history.Look{Lease: id, Asked: at(asked), Answered: at(asked + took), TTL: 10, Remaining: remaining, Term: 2})
		}
	}
	ofTerm3 := func(asked float64, remaining int64) story {
		return func(r *history.Record) {
			r.Look(history.Look{Lease: id, Asked: at(asked), Answered: at(asked), TTL: 10, Remaining: remaining, Term: 3})
		}
	}
	change := func(seen float64, changes ...history.Put) story {
		return func(r *history.Record) {
			for i := range changes {
				changes[i].Mod = r.Last() + 1
				if changes[i].Version == 1 {
					changes[i].Create = changes[i].Mod
				}
			}
			if err := r.Append(changes, at(seen)); err != nil {
				panic(err)
			}
		}
	}
	with := history.Put{Key: "a", Version: 1, Lease: id}
	other := history.Put{Key: "b", Version: 1, Lease: id}
	deleted, otherDeleted := history.Put{Key: "a"}, history.Put{Key: "b"}
	settle := func(how history.Ending) story {
		return func(r *history.Record) { r.Settle(id, how) }
	}
	type want struct {
		early, late float64 // 0 when not known
		renewals    int
		ended       history.Ending
		end         float64
		at          int64
		keys        []string
	}
	for name, c := range map[string]struct {
		stories []story
		want    want
	}{
		"never asked for": {[]story{change(1, with)},
			want{keys: []string{"a"}}},
		"asked for": {[]story{look(1, 0.1, 9)},
			want{early: 10, late: 11.1}},
		"asked for again": {[]story{look(1, 0.1, 9), look(1.5, 0.1, 9), look(2.25, 0.1, 8)},
			want{early: 10.5, late: 11.1}},
		"renewed": {[]story{look(1, 0.1, 9), look(3, 0.1, 9)},
			want{early: 12, late: 13.1, renewals: 1}},
		"renewed twice, and seen in between": {[]story{look(1, 0.1, 9), look(3, 0.1, 9), look(3.5, 0.1, 9), look(6, 0.1, 9)},
			want{early: 15, late: 16.1, renewals: 2}},
		"renewed, or not": {[]story{look(1, 0.1, 9), look(2, 0.1, 9)},
			want{early: 11, late: 11.1}},
		"an answer that took long": {[]story{look(1, 0.1, 9), look(1.2, 3, 9)},
			want{early: 10.2, late: 11.1}},
		"a new leader": {[]story{look(1, 0.1, 9), ofTerm3(5, 9)},
			want{early: 14, late: 15}},
		"a new leader, and renewed": {[]story{look(1, 0.1, 9), ofTerm3(5, 9), ofTerm3(8, 9)},
			want{early: 17, late: 18, renewals: 1}},
		"nearly over": {[]story{look(1, 0.1, 9), look(11.3, 0.1, 0)},
			want{early: 10, late: 11.1}},
		"a clock that jumps": {[]story{look(1, 0.1, 9), look(2, 0.1, 3)},
			want{early: 5, late: 6.1}},

		"its key was deleted": {[]story{change(1, with), look(2, 0.1, 9), change(3, deleted), look(3.1, 0.1, 8)},
			want{early: 11.1, late: 12.1}},
		"its key was deleted, and it ended later": {[]story{change(1, with), look(2, 0.1, 9), change(3, deleted), look(3.1, 0.1, 8), look(5, 0.1, -1)},
			want{early: 11.1, late: 12.1, ended: history.Revoked, end: 5.1}},
		"its key was deleted, and it is asked for too early": {[]story{change(1, with), look(2, 0.1, 9), change(3, deleted), look(2.9, 2, 8), look(14, 0.1, -1)},
			want{early: 11, late: 12.1, ended: history.Revoked, end: 3, at: 3, keys: []string{"a"}}},
		"revoked": {[]story{change(1, with), look(2, 0.1, 9), change(3, deleted), look(3.1, 0.1, -1)},
			want{early: 11, late: 12.1, ended: history.Revoked, end: 3, at: 3, keys: []string{"a"}}},
		"all its keys go in one revision": {[]story{change(1, with), change(1, other), look(2, 0.1, 9), change(3, deleted, otherDeleted), look(3.1, 0.1, -1)},
			want{early: 11, late: 12.1, ended: history.Revoked, end: 3, at: 4, keys: []string{"a", "b"}}},
		"one key was deleted before": {[]story{change(1, with), change(1, other), look(2, 0.1, 9), change(3, deleted), change(4, otherDeleted), look(5, 0.1, -1)},
			want{early: 11, late: 12.1, ended: history.Revoked, end: 4, at: 5, keys: []string{"b"}}},
		"gone after its deadline": {[]story{change(1, with), look(2, 0.1, 9), change(12.5, deleted), look(13, 0.1, -1)},
			want{early: 11, late: 12.1, ended: history.Ended, end: 12.5, at: 3, keys: []string{"a"}}},
		"gone about its deadline": {[]story{change(1, with), look(2, 0.1, 9), change(11.5, deleted), look(13, 0.1, -1)},
			want{early: 11, late: 12.1, ended: history.Ended, end: 11.5, at: 3, keys: []string{"a"}}},
		"gone, and never asked for": {[]story{change(1, with), change(2, deleted), look(3, 0.1, -1)},
			want{ended: history.Ended, end: 2, at: 3, keys: []string{"a"}}},
		"gone before its key is seen to go": {[]story{change(1, with), look(2, 0.1, 9), look(3, 0.1, -1)},
			want{early: 11, late: 12.1, keys: []string{"a"}}},
		"gone, without a key": {[]story{look(2, 0.1, 9), look(3, 0.1, -1)},
			want{early: 11, late: 12.1, ended: history.Revoked, end: 3.1}},
		"gone late, without a key": {[]story{look(2, 0.1, 9), look(13, 0.1, -1)},
			want{early: 11, late: 12.1, ended: history.Ended, end: 13.1}},
		"an old answer after the end": {[]story{look(2, 0.1, 9), look(3, 0.1, -1), look(2.5, 1, 9)},
			want{early: 11, late: 12.1, ended: history.Revoked, end: 3.1}},
		"by the metrics": {[]story{look(2, 0.1, 9), look(13, 0.1, -1), settle(history.Expired)},
			want{early: 11, late: 12.1, ended: history.Expired, end: 13.1}},
		"by the metrics, and known before": {[]story{look(2, 0.1, 9), look(3, 0.1, -1), settle(history.Expired)},
			want{early: 11, late: 12.1, ended: history.Revoked, end: 3.1}},
		"by the metrics, while it is alive": {[]story{look(2, 0.1, 9), settle(history.Expired)},
			want{early: 11, late: 12.1}},
	} {
		r := history.New(history.Limits{}, 1, nil, began)
		for _, tell := range c.stories {
			tell(r)
		}
		leases, ended := r.Present().Leases(), r.EndedLeases()
		if len(ended) == 0 {
			ended = leases
		}
		if len(ended) != 1 || len(leases) > 1 {
			t.Errorf("%s: %v, %v, want one lease", name, leases, ended)
			continue
		}
		l := ended[0]
		got := want{seconds(l.Early), seconds(l.Late), l.Renewals, l.Ended, seconds(l.End), l.At, l.Keys}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if inSight := l.Ended == history.Alive || r.Present().Time.Sub(l.End) <= 10*time.Second; inSight != (len(leases) == 1) {
			t.Errorf("%s: in sight are %v", name, leases)
		}
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return t.Sub(began).Seconds()
}

// TestLeasesOfThePast looks back at what was known at a time.
func TestLeasesOfThePast(t *testing.T) {
	r := history.New(history.Limits{}, 1, nil, began)
	leased := func(key string, mod, version, lease int64) history.Put {
		return history.Put{Key: key, Create: mod, Mod: mod, Version: version, Lease: lease}
	}
	tell := func(seen float64, changes ...history.Put) {
		t.Helper()
		if err := r.Append(changes, at(seen)); err != nil {
			t.Fatal(err)
		}
	}
	look := func(asked float64, lease, remaining int64) {
		r.Look(history.Look{Lease: lease, Asked: at(asked), Answered: at(asked), TTL: 5, Remaining: remaining, Term: 2})
	}
	tell(1, leased("a", 2, 1, 7))
	look(1.5, 7, 4)
	look(4, 7, 4)
	tell(5, leased("b", 3, 1, 8))
	tell(6, gone("a", 4))
	look(6.5, 7, -1)
	tell(7, leased("c", 5, 1, 7)) // Granted again with the same ID.
	look(8, 8, 3)
	look(9, 9, 4)
	look(10, 9, -1)
	// Two revisions are heard of at once, and only the second one ends a lease.
	tell(11, history.Put{Key: "d", Create: 6, Mod: 6, Version: 1}, gone("b", 7))
	look(11.5, 8, -1)

	type lease struct {
		id, ttl  int64
		renewals int
		ended    history.Ending
		keys     string
	}
	for _, c := range []struct {
		seen float64
		want []lease
	}{
		{0.5, nil},
		{1.2, []lease{{7, 0, 0, "", "[a]"}}},
		{2, []lease{{7, 5, 0, "", "[a]"}}},
		{4.5, []lease{{7, 5, 1, "", "[a]"}}},
		{5.5, []lease{{7, 5, 1, "", "[a]"}, {8, 0, 0, "", "[b]"}}},
		{6.2, []lease{{7, 5, 1, history.Revoked, "[a]"}, {8, 0, 0, "", "[b]"}}},
		{8, []lease{{7, 5, 1, history.Revoked, "[a]"}, {8, 5, 0, "", "[b]"}, {7, 0, 0, "", "[c]"}}},
		{9.5, []lease{{7, 5, 1, history.Revoked, "[a]"}, {8, 5, 0, "", "[b]"}, {7, 0, 0, "", "[c]"}, {9, 5, 0, "", "[]"}}},
		{10.5, []lease{{7, 5, 1, history.Revoked, "[a]"}, {8, 5, 0, "", "[b]"}, {7, 0, 0, "", "[c]"}, {9, 5, 0, history.Revoked, "[]"}}},
	} {
		m, err := r.AtTime(at(c.seen))
		if err != nil {
			t.Fatal(err)
		}
		var got []lease
		for _, l := range m.Leases() {
			got = append(got, lease{l.ID, l.TTL, l.Renewals, l.Ended, fmt.Sprint(l.Keys)})
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("after %v s: %v, want %v", c.seen, got, c.want)
		}
	}
	for revision, want := range map[int64]history.Ending{6: history.Alive, 7: history.Ended} {
		m, err := r.At(revision)
		if err != nil {
			t.Fatal(err)
		}
		if l := m.Leases()[1]; l.Ended != want {
			t.Errorf("at revision %d the lease is %q, want %q", revision, l.Ended, want)
		}
	}
}

// TestForgets tells records more of leases and members than they may remember.
func TestForgets(t *testing.T) {
	member := func(r *history.Record, role history.Role, seen float64) {
		r.Member(history.Member{Endpoint: "a", Role: role}, at(seen))
	}
	lines := func(r *history.Record) (looks, members int) {
		var text bytes.Buffer
		if err := r.Save(&text); err != nil {
			t.Fatal(err)
		}
		return strings.Count(text.String(), `"early"`), strings.Count(text.String(), `{"member"`)
	}
	look := func(r *history.Record, lease int64, seen float64, remaining int64) {
		r.Look(history.Look{Lease: lease, Asked: at(seen), Answered: at(seen), TTL: 5, Remaining: remaining})
	}
	t.Run("with the revisions", func(t *testing.T) {
		r := history.New(history.Limits{Changes: 100}, 1, nil, began)
		member(r, history.Leader, 1)
		look(r, 1, 1, 4)
		look(r, 1, 2, 2)
		for i := range int64(6000) {
			mod, seen := 2*i+2, 3+float64(i)
			if err := r.Append([]history.Put{{Key: "k", Create: mod, Mod: mod, Version: 1, Lease: i + 10}, gone("k", mod+1)}, at(seen)); err != nil {
				t.Fatal(err)
			}
			look(r, i+10, seen+0.1, -1)
			member(r, history.Role(fmt.Sprint("role ", i)), seen)
			if i < 100 {
				continue // Nothing is forgotten yet.
			}
			first, err := r.At(r.First())
			if err != nil {
				t.Fatal(err)
			}
			want := history.Role(fmt.Sprint("role ", seconds(first.Time)-3))
			if m := first.Members; len(m) != 1 || m[0].Role != want {
				t.Fatalf("at revision %d the members were %v, want a %s", first.Revision, m, want)
			}
		}
		if ended := len(r.EndedLeases()); ended < 50 || ended > 5000 {
			t.Errorf("%d leases are remembered", ended)
		}
		if l := r.Present().Leases(); len(l) < 10 || len(l) > 12 || l[0].ID != 1 || seconds(l[0].Early) != 5 {
			t.Errorf("what is alive: %v", l)
		}
		if looks, roles := lines(r); looks > 5000 || roles > 5000 {
			t.Errorf("%d answers about leases and %d roles are remembered", looks, roles)
		}
	})
	t.Run("without revisions", func(t *testing.T) {
		r := history.New(history.Limits{}, 1, nil, began)
		for i := range 250_000 {
			look(r, 1, float64(3*i), 4) // Each is a renewal.
			member(r, history.Role(fmt.Sprint(i)), float64(3*i))
			look(r, int64(10+i), float64(3*i), 4)
			look(r, int64(10+i), float64(3*i+1), -1)
		}
		if ended := r.EndedLeases(); len(ended) > 150_000 || len(ended) < 20_000 || ended[len(ended)-1].ID != 250_009 {
			t.Errorf("%d leases have ended", len(ended))
		}
		if l := r.Present().Leases(); l[0].ID != 1 || l[0].Renewals != 249_999 {
			t.Errorf("what is alive: %v", l)
		}
		if m := r.Present().Members; len(m) != 1 || m[0].Role != "249999" {
			t.Errorf("the members: %v", m)
		}
		if looks, roles := lines(r); looks > 200_000 || roles > 10_000 {
			t.Errorf("%d answers about leases and %d roles are remembered", looks, roles)
		}
	})
}

func TestMembers(t *testing.T) {
	r := history.New(history.Limits{}, 1, nil, began)
	one := history.Member{Name: "etcd1", Endpoint: "127.0.0.1:2379", ID: 1, Role: history.Leader, Term: 2}
	two := history.Member{Name: "etcd2", Endpoint: "127.0.0.1:2381", ID: 2, Role: history.Follower, Term: 2}
	killed := one
	killed.Role = history.Unreachable
	leads := two
	leads.Role, leads.Term = history.Leader, 3
	r.Member(one, at(1))
	r.Member(two, at(2))
	r.Member(one, at(3))
	next := r.Next()
	r.Member(two, at(4))
	select {
	case <-next:
		t.Error("what is not new is told")
	default:
	}
	r.Member(killed, at(5))
	r.Member(leads, at(6))
	for _, c := range []struct {
		seen float64
		want []history.Member
	}{
		{0.5, nil}, {1.5, []history.Member{one}}, {4.5, []history.Member{one, two}},
		{5.5, []history.Member{killed, two}}, {6, []history.Member{killed, leads}},
	} {
		m, err := r.AtTime(at(c.seen))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(m.Members, c.want) {
			t.Errorf("after %v s: %v, want %v", c.seen, m.Members, c.want)
		}
	}
}
