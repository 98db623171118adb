package judge_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/judge"
)

// began is when the records of these tests begin.
var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// op is a put, or a deletion when its value is gone.
type op struct {
	key, value string
	lease      int64
}

const gone = "\x00"

// recorded returns a record that begins with a new etcd and has a revision for each
// element of ops.
func recorded(t testing.TB, limits history.Limits, ops ...[]op) *history.Record {
	t.Helper()
	r := history.New(limits, 1, nil, began)
	for _, together := range ops {
		revision := r.Last() + 1
		var changes []history.Put
		for _, o := range together {
			change := history.Put{Key: o.key, Mod: revision}
			if o.value != gone {
				change.Value, change.Lease, change.Create, change.Version = o.value, o.lease, revision, 1
				if before := r.Present().Get(o.key); before != nil {
					change.Create, change.Version = before.Create, before.Version+1
				}
			}
			changes = append(changes, change)
		}
		if err := r.Append(changes, began.Add(time.Duration(revision)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// one returns a revision of one put.
func one(key, value string) []op { return []op{{key: key, value: value}} }

func leased(key string, lease int64) []op { return []op{{key, "", lease}} }

// refused looks at what a judge says: breaches at the revisions wanted, each of which
// says why, or none.
func refused(t *testing.T, found []judge.Breach, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Errorf("it is not known: %v", err)
	}
	for i := range max(len(found), len(want)) {
		if i >= len(found) || i >= len(want) || !strings.HasPrefix(found[i].String(), want[i]) {
			t.Errorf("found %q\nwant  %q", found, want)
			return
		}
	}
}

func TestOneHolder(t *testing.T) {
	for name, c := range map[string]struct {
		ops  [][]op
		want []string
	}{
		"one after the other": {[][]op{one("/lock/a", "ann"), one("/lock/a", gone), one("/lock/a", "ben"), one("/lock/a", gone)}, nil},
		"two locks":           {[][]op{one("/lock/a", "ann"), one("/lock/b", "ben")}, nil},
		"no lock at all":      {[][]op{one("/lo", "ann"), one("/lo", "ben")}, nil},
		"two holders": {[][]op{one("/lock/a", "ann"), one("/lock/a", "ben")},
			[]string{`revision 3: /lock/a has two holders: "ben" takes it from "ann", which has token 2`}},
		"two holders of one name": {[][]op{one("/lock/a", "ann"), one("/lock/a", "ann")}, []string{"revision 3: /lock/a"}},
		"two holders of one lease": {[][]op{leased("/lock/a", 7), leased("/lock/a", 7)},
			[]string{"revision 3: /lock/a"}},
		"in a later turn": {[][]op{one("/lock/a", "ann"), one("/lock/a", gone), one("/lock/a", "ben"),
			{{"/x", "", 0}, {"/lock/a", "ann", 0}}, one("/lock/a", gone), one("/lock/a", "cat")},
			[]string{"revision 5: /lock/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := recorded(t, history.Limits{}, c.ops...)
			found, err := judge.OneHolder(r, 1, r.Last(), judge.Prefix("/lock/"))
			refused(t, found, err, c.want...)
		})
	}
	// The holder may have had the lock before.
	r := recorded(t, history.Limits{}, one("/lock", "ann"), one("/x", ""), one("/lock", "ben"), one("/x", ""))
	found, err := judge.OneHolder(r, 3, 4, judge.Key("/lock"))
	refused(t, found, err, "revision 4: /lock")
	found, err = judge.OneHolder(r, 4, 5, judge.Key("/lock"))
	refused(t, found, err)
}

// claim reads values such as "by ann, token 7", and the lock from the key.
func claim(kv *history.KeyValue) (lock string, token int64) {
	_, number, _ := strings.Cut(kv.Value, "token ")
	token, _ = strconv.ParseInt(number, 10, 64)
	return strings.Replace(kv.Key, "/done/", "/lock/", 1), token
}

func TestFenced(t *testing.T) {
	lock, free := one("/lock/a", "ann"), one("/lock/a", gone)
	for name, c := range map[string]struct {
		ops  [][]op
		want []string
	}{
		"held":            {[][]op{lock, one("/done/a", "token 2"), free, lock, one("/done/a", "token 5"), free}, nil},
		"put again":       {[][]op{lock, lock, one("/done/a", "token 2"), free, one("/done/a", gone)}, nil},
		"twice":           {[][]op{lock, one("/done/a", "token 2"), one("/done/a", "token 2")}, nil},
		"and released":    {[][]op{lock, {{"/lock/a", gone, 0}, {"/done/a", "token 2", 0}}}, nil},
		"beside the keys": {[][]op{one("/x", "token 9"), one("/done", "token 9")}, nil},
		"deleted":         {[][]op{lock, one("/done/a", "token 2"), free, one("/done/a", gone)}, nil},
		"too late": {[][]op{lock, free, one("/done/a", "token 2")},
			[]string{"revision 4: /done/a is written with token 2, and nobody has /lock/a"}},
		"too late, and another has it": {[][]op{lock, free, lock, one("/done/a", "token 2")},
			[]string{"revision 5: /done/a is written with token 2, and token 4 has /lock/a"}},
		"too late, over the other's result": {[][]op{lock, free, lock, one("/done/a", "token 4"), one("/done/a", "token 2")},
			[]string{"revision 6: /done/a is written with token 2, and token 4 has /lock/a; the token is lower than 4"}},
		"a token to come": {[][]op{lock, one("/done/a", "token 3")}, []string{"revision 3: /done/a"}},
		"taken and written at once": {[][]op{{{"/lock/a", "", 0}, {"/done/a", "token 2", 0}}},
			[]string{"revision 2: /done/a"}},
		"another lock": {[][]op{lock, one("/lock/b", "ann"), one("/done/b", "token 2")},
			[]string{"revision 4: /done/b is written with token 2, and token 3 has /lock/b"}},
		"without a token": {[][]op{lock, one("/done/a", "now"), free, one("/done/a", "")},
			[]string{"revision 3: /done/a", "revision 5: /done/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := recorded(t, history.Limits{}, c.ops...)
			found, err := judge.Fenced(r, 1, r.Last(), judge.Prefix("/done/"), claim)
			refused(t, found, err, c.want...)
		})
	}
	// The lock may have been taken before.
	r := recorded(t, history.Limits{}, lock, one("/x", ""), one("/done/a", "token 2"), free, one("/done/a", "token 2"))
	found, err := judge.Fenced(r, 3, 4, judge.Key("/done/a"), claim)
	refused(t, found, err)
	found, err = judge.Fenced(r, 3, 6, judge.Key("/done/a"), claim)
	refused(t, found, err, "revision 6: /done/a")
}

func TestAlwaysLeased(t *testing.T) {
	r := recorded(t, history.Limits{}, leased("/s/a", 7), one("/t", ""), leased("/s/a", 8), one("/s/a", ""),
		leased("/s/b", 7), leased("/s/a", 7), one("/s/b", ""), one("/s/a", gone), one("/s/b", gone))
	for _, c := range []struct {
		from, to int64
		want     []string
	}{
		{1, 4, nil},
		{1, 5, []string{"revision 5: /s/a is put without a lease"}},
		{5, 6, []string{"revision 5: /s/a has had no lease since revision 5"}},
		{6, 7, []string{"revision 6: /s/a has had no lease since revision 5"}},
		{7, 7, nil},
		{1, 10, []string{"revision 5: /s/a", "revision 8: /s/b"}},
		{9, 10, []string{"revision 9: /s/b"}},
		{10, 10, nil},
	} {
		found, err := judge.AlwaysLeased(r, c.from, c.to, judge.Prefix("/s/"))
		refused(t, found, err, c.want...)
	}
}

func TestExactlyOnce(t *testing.T) {
	result := func(c history.Change) string {
		if c.After == nil {
			return ""
		}
		return strings.TrimPrefix(c.Key, "/done/")
	}
	number := func(c history.Change) string {
		if c.After == nil {
			return ""
		}
		return c.After.Value
	}
	for name, c := range map[string]struct {
		ops  [][]op
		item func(history.Change) string
		due  []string
		want []string
	}{
		"each once":           {[][]op{one("/done/a", ""), {{"/done/b", "", 0}, {"/done/c", "", 0}}, one("/x", "")}, result, []string{"a", "b", "c"}, nil},
		"one more":            {[][]op{one("/done/a", ""), one("/done/b", "")}, result, []string{"a"}, nil},
		"tidied up":           {[][]op{one("/done/a", ""), one("/done/a", gone)}, result, []string{"a"}, nil},
		"twice":               {[][]op{one("/done/a", "1"), one("/x", ""), one("/done/a", "2")}, result, nil, []string{`revision 4: /done/a does "a" again, which revision 2 has done`}},
		"twice, and tidied":   {[][]op{one("/done/a", ""), one("/done/a", gone), one("/done/a", "")}, result, nil, []string{"revision 4: /done/a"}},
		"three times":         {[][]op{one("/done/a", ""), one("/done/a", ""), one("/done/a", "")}, result, nil, []string{"revision 3: /done/a", "revision 4: /done/a"}},
		"never":               {[][]op{one("/done/a", ""), one("/x", "b")}, result, []string{"a", "b"}, []string{`revision 3: "b" was never done`}},
		"nothing at all":      {nil, result, []string{"a"}, []string{"revision 1:"}},
		"counted":             {[][]op{one("/done/n", "1"), one("/done/n", "2"), one("/done/n", "3")}, number, []string{"1", "2", "3"}, nil},
		"a lost update":       {[][]op{one("/done/n", "1"), one("/done/n", "2"), one("/done/n", "2")}, number, nil, []string{"revision 4: /done/n"}},
		"a number left out":   {[][]op{one("/done/n", "1"), one("/done/n", "3")}, number, []string{"1", "2", "3"}, []string{`revision 3: "2"`}},
		"twice in a revision": {[][]op{{{"/done/m", "1", 0}, {"/done/n", "1", 0}}}, number, nil, []string{"revision 2: /done/n"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := recorded(t, history.Limits{}, c.ops...)
			found, err := judge.ExactlyOnce(r, 1, r.Last(), judge.Prefix("/done/"), c.item, c.due...)
			refused(t, found, err, c.want...)
		})
	}
}

// judges has each judge, asked about a stretch that it would call right if it did not
// look at what the record holds.
var judges = map[string]func(r *history.Record, from, to int64) ([]judge.Breach, error){
	"OneHolder": func(r *history.Record, from, to int64) ([]judge.Breach, error) {
		return judge.OneHolder(r, from, to, judge.Prefix("/none/"))
	},
	"Fenced": func(r *history.Record, from, to int64) ([]judge.Breach, error) {
		return judge.Fenced(r, from, to, judge.Prefix("/none/"), claim)
	},
	"AlwaysLeased": func(r *history.Record, from, to int64) ([]judge.Breach, error) {
		return judge.AlwaysLeased(r, from, to, judge.Prefix("/none/"))
	},
	"ExactlyOnce": func(r *history.Record, from, to int64) ([]judge.Breach, error) {
		return judge.ExactlyOnce(r, from, to, judge.Prefix("/none/"), func(history.Change) string { return "" })
	},
	"NothingMissed": func(r *history.Record, from, to int64) ([]judge.Breach, error) {
		return judge.NothingMissed(r, from, to, judge.Prefix("/none/"), nil)
	},
	"NothingMissed, told of a present": func(r *history.Record, from, to int64) ([]judge.Breach, error) {
		return judge.NothingMissed(r, 10, 10, judge.Prefix("/none/"), []judge.Answer{
			{Present: true, Revision: from}, {Present: true, Revision: to}})
	},
	"NothingMissed, told of progress": func(r *history.Record, from, to int64) ([]judge.Breach, error) {
		return judge.NothingMissed(r, from, 10, judge.Prefix("/none/"), []judge.Answer{{Revision: to}})
	},
	"NothingMissed, told of a change": func(r *history.Record, from, to int64) ([]judge.Breach, error) {
		return judge.NothingMissed(r, from, 10, judge.Prefix(""), []judge.Answer{
			{Changes: []history.Change{{Revision: to, Key: "/a"}}}})
	},
}

// TestNotKnown asks for what a record does not hold: it began too late, has forgotten
// it, or has not come so far.
func TestNotKnown(t *testing.T) {
	late := history.New(history.Limits{}, 10, []*history.KeyValue{{Key: "/a", Value: "9", Create: 2, Mod: 10, Version: 9}}, began)
	var forgetful [][]op
	for n := range 9 {
		forgetful = append(forgetful, one("/a", fmt.Sprint(n+1)))
	}
	forgot := recorded(t, history.Limits{Changes: 1}, forgetful...)
	for name, r := range map[string]*history.Record{"begins too late": late, "has forgotten": forgot} {
		first, last := r.First(), r.Last()
		if last != 10 || first < 9 {
			t.Fatalf("the record reaches from %d to %d", first, last)
		}
		for which, ask := range judges {
			if found, err := ask(r, 10, 10); err != nil || len(found) != 0 && which != "NothingMissed, told of a change" {
				t.Errorf("%s, %s: what it holds: %v, %v", which, name, found, err)
			}
			for _, c := range []struct {
				from, to int64
				want     error
			}{{1, 10, history.ErrForgotten}, {first - 1, 10, history.ErrForgotten}, {0, 10, history.ErrForgotten},
				{10, 11, history.ErrFuture}, {1, 11, nil}} {
				found, err := ask(r, c.from, c.to)
				known := errors.Is(err, history.ErrForgotten) || errors.Is(err, history.ErrFuture)
				if len(found) != 0 || !known || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s, %s: from %d to %d: %v, %v; want %v", which, name, c.from, c.to, found, err, c.want)
				}
			}
		}
	}
	for which, ask := range judges {
		if !strings.Contains(which, ",") {
			if found, err := ask(forgot, 10, 9); found != nil || err == nil {
				t.Errorf("%s: from 10 to 9: %v, %v", which, found, err)
			}
		}
	}
}

// TestCutValues asks judges that read values for what the record has kept in part.
func TestCutValues(t *testing.T) {
	r := recorded(t, history.Limits{Value: 7}, one("/lock/a", "ann"), one("/done/a", "token 2"), one("/done/a", "token 2, by ann"), one("/done/a", "token 2"))
	whole := func(to int64) [][]judge.Answer {
		kv := func(value string) *history.KeyValue { return &history.KeyValue{Value: value} }
		present := []judge.Answer{{Present: true, Revision: to, Changes: []history.Change{{Key: "/done/a", After: kv("token 2")}}}}
		var changes []judge.Answer
		for revision := int64(3); revision <= to; revision++ {
			changes = append(changes, judge.Answer{Changes: []history.Change{{Revision: revision, Key: "/done/a", After: kv("token 2")}}})
		}
		return [][]judge.Answer{present, changes}
	}
	for to, want := range map[int64]error{3: nil, 4: history.ErrForgotten, 5: history.ErrForgotten} {
		found, err := judge.Fenced(r, 1, to, judge.Prefix("/done/"), claim)
		if len(found) != 0 || !errors.Is(err, want) {
			t.Errorf("Fenced up to %d: %v, %v, want %v", to, found, err, want)
		}
		found, err = judge.ExactlyOnce(r, 1, to, judge.Prefix("/done/"), func(c history.Change) string { return fmt.Sprint(c.Revision) })
		if len(found) != 0 || !errors.Is(err, want) {
			t.Errorf("ExactlyOnce up to %d: %v, %v, want %v", to, found, err, want)
		}
		for _, told := range whole(to) {
			found, err = judge.NothingMissed(r, 1, to, judge.Prefix("/done/"), told)
			if len(found) != 0 || !errors.Is(err, want) {
				t.Errorf("NothingMissed up to %d: %v, %v, want %v", to, found, err, want)
			}
		}
	}
	// What was there before is told to the judge as well.
	found, err := judge.ExactlyOnce(r, 4, 5, judge.Prefix("/done/"), func(c history.Change) string { return c.Before.Value })
	if len(found) != 0 || !errors.Is(err, history.ErrForgotten) {
		t.Errorf("ExactlyOnce, of what was before: %v, %v", found, err)
	}
	found, err = judge.NothingMissed(r, 4, 5, judge.Prefix("/done/"), []judge.Answer{{Changes: []history.Change{
		{Revision: 5, Key: "/done/a", Before: &history.KeyValue{Value: "token 2"}, After: &history.KeyValue{Value: "token 2"}}}}})
	if len(found) != 0 || !errors.Is(err, history.ErrForgotten) {
		t.Errorf("NothingMissed, of what was before: %v, %v", found, err)
	}
	// The present alone, in which a value is cut.
	found, err = judge.NothingMissed(r, 4, 4, judge.Prefix("/done/"), whole(4)[0])
	if len(found) != 0 || !errors.Is(err, history.ErrForgotten) {
		t.Errorf("the present: %v, %v", found, err)
	}
}
