package judge_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/judge"
)

func TestNothingMissed(t *testing.T) {
	// a 2, b and c 3, a again 4, beside 5, b deleted 6.
	r := recorded(t, history.Limits{}, leased("/w/a", 7), []op{{"/w/b", "2", 0}, {"/w/c", "3", 0}},
		[]op{{"/w/a", "4", 7}}, one("/beside", "5"), one("/w/b", gone))
	all := map[string]history.Change{}
	changes, err := r.Changes(2, 6)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		all[fmt.Sprint(c.Key, c.Revision)] = c
	}
	a2, b3, c3, a4, beside, b6 := all["/w/a2"], all["/w/b3"], all["/w/c3"], all["/w/a4"], all["/beside5"], all["/w/b6"]
	but := func(c history.Change, edit func(before, after *history.KeyValue)) history.Change {
		copied := func(kv *history.KeyValue) *history.KeyValue {
			if kv == nil {
				return &history.KeyValue{}
			}
			return new(*kv)
		}
		c.Before, c.After = copied(c.Before), copied(c.After)
		edit(c.Before, c.After)
		return c
	}
	short := func(revision int64, key, value string) history.Change {
		return history.Change{Revision: revision, Key: key, After: &history.KeyValue{Value: value}}
	}
	told := func(changes ...history.Change) judge.Answer { return judge.Answer{Changes: changes} }
	progress := func(revision int64) judge.Answer { return judge.Answer{Revision: revision} }
	present := func(revision int64, changes ...history.Change) judge.Answer {
		return judge.Answer{Present: true, Revision: revision, Changes: changes}
	}
	at3 := present(3, a2, b3, c3)
	for _, c := range []struct {
		name  string
		told  []judge.Answer
		wants []string
	}{
		{"right", []judge.Answer{present(1), told(a2), progress(2), told(b3, c3), told(a4), progress(5), told(b6)}, nil},
		{"right, without the present", []judge.Answer{told(a2), told(b3, c3), told(a4), told(b6)}, nil},
		{"right, and said in short", []judge.Answer{told(short(2, "/w/a", "")), told(short(3, "/w/b", "2"), short(3, "/w/c", "3")),
			told(short(4, "/w/a", "4")), told(history.Change{Revision: 6, Key: "/w/b"})}, nil},
		{"another order in a revision", []judge.Answer{told(a2), told(c3, b3, a4, b6)}, nil},
		{"all at once", []judge.Answer{told(a2, b3, c3, a4, b6)}, nil},
		{"the present again", []judge.Answer{told(a2), at3, told(a4), told(b6)}, nil},
		{"the present, and again", []judge.Answer{at3, at3, present(6, a4, c3), present(6, c3, a4)}, nil},
		{"a neighbour", []judge.Answer{at3, told(a4), told(beside), told(b6)},
			[]string{"revision 5: /beside is told of, and is none of the keys"}},
		{"a neighbour in the present", []judge.Answer{present(5, a4, b3, c3, beside), told(b6)},
			[]string{"revision 5: /beside is told of, and is none of the keys"}},
		{"the wrong order", []judge.Answer{told(a2), told(a4), told(b3, c3), told(b6)},
			[]string{"revision 3: /w/b is missing, and revision 4", "revision 3: /w/c is missing", "revision 3: /w/b comes too late, after revision 4", "revision 3: /w/c comes too late"}},
		{"the wrong order at once", []judge.Answer{told(a2), told(b3, a4, c3), told(b6)},
			[]string{"revision 3: /w/c is missing", "revision 3: /w/c comes too late"}},
		{"twice", []judge.Answer{at3, told(a4), told(a4), told(b6)}, []string{"revision 4: /w/a is told of twice"}},
		{"twice at once", []judge.Answer{at3, told(a4, a4), told(b6)}, []string{"revision 4: /w/a is told of twice"}},
		{"again after the present", []judge.Answer{told(a2), at3, told(c3), told(a4), told(b6)}, []string{"revision 3: /w/c comes too late"}},
		{"what was known", []judge.Answer{told(short(1, "/w/a", "")), at3, told(a4), told(b6)}, []string{"revision 1: /w/a is told of after revision 1"}},
		{"a revision in two", []judge.Answer{told(a2), told(b3), told(c3), told(a4), told(b6)},
			[]string{"revision 3: /w/c is left out of what was told of its revision", "revision 3: /w/c comes too late"}},
		{"half a revision", []judge.Answer{told(a2), told(b3, a4), told(b6)}, []string{"revision 3: /w/c is missing"}},
		{"half a revision at last", []judge.Answer{told(a2), told(b3), at3, told(a4), told(b6)}, []string{"revision 3: /w/c is left out"}},
		{"promised too much", []judge.Answer{at3, progress(4), told(a4), told(b6)},
			[]string{"revision 4: /w/a is missing, though all up to revision 4", "revision 4: /w/a comes too late"}},
		{"the first missing", []judge.Answer{told(b3, c3), told(a4), told(b6)}, []string{"revision 2: /w/a is missing"}},
		{"the first after the present missing", []judge.Answer{at3, told(b6)}, []string{"revision 4: /w/a is missing"}},
		{"one missing", []judge.Answer{told(a2), told(a4), told(b6)}, []string{"revision 3: /w/b is missing", "revision 3: /w/c is missing"}},
		{"the last missing", []judge.Answer{at3, told(a4)}, []string{"revision 6: /w/b is missing at the end"}},
		{"nothing after the present", []judge.Answer{at3}, []string{"revision 4: /w/a is missing at the end", "revision 6"}},
		{"nothing at all", nil, []string{"revision 2", "revision 3", "revision 3", "revision 4", "revision 6"}},
		{"invented", []judge.Answer{at3, told(a4), told(short(5, "/w/d", "9")), told(b6)}, []string{"revision 5: /w/d is told of, and did not change"}},
		{"a deletion for a put", []judge.Answer{at3, told(history.Change{Revision: 4, Key: "/w/a"}), told(b6)}, []string{`revision 4: /w/a is told as no key, and is "4"`}},
		{"a put for a deletion", []judge.Answer{at3, told(a4), told(short(6, "/w/b", ""))}, []string{`revision 6: /w/b is told as "",`}},
		{"another value", []judge.Answer{at3, told(but(a4, func(_, a *history.KeyValue) { a.Value = "9" })), told(b6)}, []string{`revision 4: /w/a is told as "9"`}},
		{"another key in it", []judge.Answer{at3, told(but(a4, func(_, a *history.KeyValue) { a.Key = "/w/b" })), told(b6)}, []string{"revision 4: /w/a"}},
		{"another version", []judge.Answer{at3, told(but(a4, func(_, a *history.KeyValue) { a.Version = 3 })), told(b6)}, []string{"revision 4: /w/a"}},
		{"another creation", []judge.Answer{at3, told(but(a4, func(_, a *history.KeyValue) { a.Create = 4 })), told(b6)}, []string{"revision 4: /w/a"}},
		{"another revision in it", []judge.Answer{at3, told(but(a4, func(_, a *history.KeyValue) { a.Mod = 5 })), told(b6)}, []string{"revision 4: /w/a"}},
		{"another lease", []judge.Answer{at3, told(but(a4, func(_, a *history.KeyValue) { a.Lease = 8 })), told(b6)}, []string{"revision 4: /w/a"}},
		{"another value before", []judge.Answer{at3, told(but(a4, func(b, _ *history.KeyValue) { b.Value = "9" })), told(b6)}, []string{`revision 4: /w/a is told to have been "9"`}},
		{"something before", []judge.Answer{told(but(a2, func(b, _ *history.KeyValue) { b.Value = "9" })), told(b3, c3, a4, b6)}, []string{`revision 2: /w/a is told to have been "9"`}},
		{"a present without a key", []judge.Answer{present(3, a2, b3), told(a4), told(b6)}, []string{"revision 3: /w/c is missing in the present"}},
		{"a present with a key that is gone", []judge.Answer{at3, present(6, b3, a4, c3)}, []string{"revision 6: /w/b is told as"}},
		{"a present of another value", []judge.Answer{present(3, b3, a4, c3), told(a4, b6)}, []string{"revision 3: /w/a is told as"}},
		{"a present with a key twice", []judge.Answer{present(3, a2, b3, c3, c3), told(a4, b6)}, []string{"revision 3: /w/c is told twice in one present"}},
		{"a present with a deletion", []judge.Answer{present(3, a2, b3, c3, history.Change{Key: "/w/d"}), told(a4, b6)}, []string{"revision 3: /w/d is told as no key"}},
		{"a present of the past", []judge.Answer{told(a2), told(b3, c3), told(a4), at3, told(b6)}, []string{"revision 3: is told as the present, after revision 4"}},
		{"presents in the wrong order", []judge.Answer{present(6, a4, c3), at3, told(a4), told(b6)}, []string{"revision 3: is told as the present, after revision 6"}},
		{"back to the past", []judge.Answer{told(a2), told(b3, c3), told(a4), at3, told(a4), told(b6)},
			[]string{"revision 3: is told as the present", "revision 4: /w/a is told of twice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, err := judge.NothingMissed(r, 1, 6, judge.Prefix("/w/"), c.told)
			refused(t, found, err, c.wants...)
		})
	}
	// What the follower told beyond the end that was asked for is judged as well.
	found, err := judge.NothingMissed(r, 3, 4, judge.Prefix("/w/"), []judge.Answer{told(a4), told(b6)})
	refused(t, found, err)
	found, err = judge.NothingMissed(r, 3, 4, judge.Prefix("/w/"), []judge.Answer{told(b6)})
	refused(t, found, err, "revision 4: /w/a is missing")
}

// TestFollowersAtRandom has followers tell of random histories rightly, and then with
// one fault each, at a random place.
func TestFollowersAtRandom(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		r := scribbled(t, random)
		keys := judge.Prefix("/w/")
		told := follow(t, random, r)
		found, err := judge.NothingMissed(r, 1, r.Last(), keys, told)
		if err != nil || len(found) > 0 {
			t.Fatalf("seed %d: right, and refused: %v, %v", seed, found, err)
		}
		for name, plant := range faults {
			planted := plant(random, told)
			if planted == nil {
				continue // There is no place for this one.
			}
			if found, err := judge.NothingMissed(r, 1, r.Last(), keys, planted); err != nil || len(found) == 0 {
				t.Errorf("seed %d, %s: not found, %v", seed, name, err)
			}
		}
	}
}

// scribbled returns a record of some random revisions.
func scribbled(t *testing.T, random *rand.Rand) *history.Record {
	t.Helper()
	var all [][]op
	there := map[string]bool{}
	for i := range 20 {
		var ops []op
		for n := range 6 {
			key := fmt.Sprint([]string{"/w/", "/x/"}[n%2], n)
			switch {
			case random.IntN(3) > 0:
			case there[key] && random.IntN(3) == 0:
				ops = append(ops, op{key, gone, 0})
				there[key] = false
			default:
				ops = append(ops, op{key, fmt.Sprint(i), 0})
				there[key] = true
			}
		}
		if len(ops) > 0 {
			all = append(all, ops)
		}
	}
	return recorded(t, history.Limits{}, all...)
}

// follow tells of a record as a follower might who sometimes has to read the present
// again.
func follow(t *testing.T, random *rand.Rand, r *history.Record) (told []judge.Answer) {
	t.Helper()
	var pending []history.Change
	flush := func() {
		if len(pending) > 0 {
			told = append(told, judge.Answer{Changes: pending})
			pending = nil
		}
	}
	for revision := int64(2); revision <= r.Last(); revision++ {
		if random.IntN(8) == 0 {
			flush()
			revision = min(r.Last(), revision+random.Int64N(4))
			a := judge.Answer{Present: true, Revision: revision}
			moment, err := r.At(revision)
			if err != nil {
				t.Fatal(err)
			}
			for kv := range moment.Range("/w/") {
				a.Changes = append(a.Changes, history.Change{Revision: kv.Mod, Key: kv.Key, After: kv})
			}
			told = append(told, a)
			continue
		}
		changes, err := r.Changes(revision, revision)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if strings.HasPrefix(c.Key, "/w/") {
				pending = append(pending, c)
			}
		}
		if random.IntN(2) == 0 {
			flush()
			if random.IntN(3) == 0 {
				told = append(told, judge.Answer{Revision: revision})
			}
		}
	}
	flush()
	return told
}

// faults returns what was told with one fault in it, or nil.
var faults = map[string]func(*rand.Rand, []judge.Answer) []judge.Answer{
	"a change missing": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return edit(random, told, func(c []history.Change, i int) []history.Change { return slices.Delete(c, i, i+1) })
	},
	"a change twice": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return edit(random, told, func(c []history.Change, i int) []history.Change { return slices.Insert(c, i, c[i]) })
	},
	"another value": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return edit(random, told, func(c []history.Change, i int) []history.Change {
			c[i].After = &history.KeyValue{Value: "another"}
			return c
		})
	},
	"another revision": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return edit(random, told, func(c []history.Change, i int) []history.Change {
			c[i].Revision--
			return c
		})
	},
	"another key": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return edit(random, told, func(c []history.Change, i int) []history.Change {
			c[i].Key = "/w/another"
			return c
		})
	},
	"an answer missing": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return place(random, told, isChanges, func(told []judge.Answer, i int) []judge.Answer { return slices.Delete(told, i, i+1) })
	},
	"an answer too late": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return place(random, told, isChanges, func(told []judge.Answer, i int) []judge.Answer {
			if i+1 == len(told) {
				return nil
			}
			told[i], told[i+1] = told[i+1], told[i]
			return told
		})
	},
	"a promise too early": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return place(random, told, isChanges, func(told []judge.Answer, i int) []judge.Answer {
			return slices.Insert(told, i, judge.Answer{Revision: told[i].Changes[0].Revision})
		})
	},
	"a present in part": func(random *rand.Rand, told []judge.Answer) []judge.Answer {
		return place(random, told, func(a judge.Answer) bool { return a.Present && len(a.Changes) > 0 },
			func(told []judge.Answer, i int) []judge.Answer {
				told[i].Changes = told[i].Changes[1:]
				return told
			})
	},
}

func isChanges(a judge.Answer) bool { return !a.Present && len(a.Changes) > 0 }

// place calls do with a copy of what was told and the index of one of those answers
// that are asked for.
func place(random *rand.Rand, told []judge.Answer, which func(judge.Answer) bool,
	do func([]judge.Answer, int) []judge.Answer) []judge.Answer {
	var places []int
	for i, a := range told {
		// What is missing just before a present is replaced by it.
		replaced := !a.Present && i+1 < len(told) && told[i+1].Present
		if which(a) && !replaced {
			places = append(places, i)
		}
	}
	if len(places) == 0 {
		return nil
	}
	return do(slices.Clone(told), places[random.IntN(len(places))])
}

// edit changes one of the changes in one of the answers.
func edit(random *rand.Rand, told []judge.Answer, do func([]history.Change, int) []history.Change) []judge.Answer {
	return place(random, told, isChanges, func(told []judge.Answer, i int) []judge.Answer {
		changes := slices.Clone(told[i].Changes)
		told[i].Changes = do(changes, random.IntN(len(changes)))
		return told
	})
}
