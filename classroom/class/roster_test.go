package class

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/etcd-by-example/classroom/history"
)

// planted is a history to which a test adds changes.
type planted struct {
	*history.Record
	t testing.TB
}

func plant(t testing.TB, limits history.Limits) planted {
	return planted{history.New(limits, 1, nil, time.Now()), t}
}

// add makes a revision of puts, each given as key and value.
func (p planted) add(puts ...string) {
	p.t.Helper()
	var changes []history.Put
	for i := 0; i < len(puts); i += 2 {
		kv := history.Put{Key: puts[i], Value: puts[i+1], Create: p.Last() + 1, Mod: p.Last() + 1, Version: 1}
		if old := p.Present().Get(kv.Key); old != nil {
			kv.Create, kv.Version = old.Create, old.Version+1
		}
		changes = append(changes, kv)
	}
	p.append(changes)
}

// gone makes a revision that deletes keys.
func (p planted) gone(keys ...string) {
	p.t.Helper()
	var changes []history.Put
	for _, key := range keys {
		changes = append(changes, history.Put{Key: key, Mod: p.Last() + 1})
	}
	p.append(changes)
}

func (p planted) append(changes []history.Put) {
	p.t.Helper()
	if err := p.Append(changes, time.Now()); err != nil {
		p.t.Fatal(err)
	}
}

// told returns a sheet in words.
func told(t testing.TB, r *Roster, revision int64) string {
	t.Helper()
	s, err := r.At(revision)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range s.Learners {
		state := "away"
		switch {
		case e.Removed:
			state = "removed"
		case e.Here:
			state = "here"
		}
		all = append(all, fmt.Sprintf("%s %s %s %v %d/%d/%d", e.Name, state, e.Lesson, e.Passed, e.Keys, e.Bytes, e.Written))
	}
	return strings.Join(all, "\n")
}

// TestRoster follows two learners through a lesson of each kind.
func TestRoster(t *testing.T) {
	p := plant(t, history.Limits{})
	r := NewRoster(p.Record)
	var all []string
	step := func(want ...string) {
		t.Helper()
		if got := told(t, r, p.Last()); got != strings.Join(want, "\n") {
			t.Errorf("at revision %d:\n%s\nwant\n%s", p.Last(), got, strings.Join(want, "\n"))
		}
		for int64(len(all)) < p.Last() {
			all = append(all, strings.Join(want, "\n"))
		}
	}
	step("")
	p.add(".names/bob", "hash")
	step("bob away  [] 0/0/0")
	p.add(".here/bob", "")
	step("bob here  [] 0/0/9")
	p.add(".names/ann", "hash", ".here/ann", "01-connect 02-put")
	step("ann here  [01-connect 02-put] 0/0/26", "bob here  [] 0/0/9")
	p.add("ann:/cron/jobs/put/job1", "hello")
	step("ann here 02-put [01-connect 02-put] 1/28/54", "bob here  [] 0/0/9")
	p.add("ann:/cron/jobs/put/job1", "hi", "ann:/mine", "")
	step("ann here 02-put [01-connect 02-put] 2/34/88", "bob here  [] 0/0/9")
	p.add("bob:/cron/jobs/delete/job1", "", "bob:/cron/jobs/job1", "")
	p.gone("bob:/cron/jobs/delete/job1")
	step("ann here 02-put [01-connect 02-put] 2/34/88", "bob here 04-delete [] 1/19/54")
	all[len(all)-2] = "ann here 02-put [01-connect 02-put] 2/34/88\nbob here 01-connect [] 2/45/54"
	// A lock of all is its holder's. Keys of no learner are nobody's.
	p.add("class:/cron/lock/job9", "ann", "eve:/a", "", "teacher:/cron/jobs/op/job1", "", "no name:/a", "", ":", "", "plain", "")
	step("ann here 08-txn-lock [01-connect 02-put] 2/34/88", "bob here 04-delete [] 1/19/54")
	if s, err := r.At(p.Last()); err != nil || s.Common.Keys != 1 || s.Teacher.Lesson != "07-op" || s.Here() != 2 {
		t.Errorf("the sheet is %+v (%v)", s, err)
	}
	// Neither the end of a lease nor a reset is a lesson.
	p.add("ann:/cron/jobs/lease/job1", "")
	step("ann here 05-lease [01-connect 02-put] 3/59/113", "bob here 04-delete [] 1/19/54")
	p.add("ann:/cron/jobs/watch/job1", "")
	p.gone("ann:/cron/jobs/lease/job1", "ann:/cron/jobs/watch/job1", "ann:/cron/jobs/put/job1")
	step("ann here 06-watch [01-connect 02-put] 1/9/138", "bob here 04-delete [] 1/19/54")
	all[len(all)-2] = "ann here 06-watch [01-connect 02-put] 4/84/138\nbob here 04-delete [] 1/19/54"
	p.gone(".here/ann")
	step("ann away 06-watch [01-connect 02-put] 1/9/138", "bob here 04-delete [] 1/19/54")
	p.add(".names/ann", removed)
	p.gone("ann:/mine")
	step("ann removed 06-watch [01-connect 02-put] 0/0/138", "bob here 04-delete [] 1/19/54")
	all[len(all)-2] = "ann removed 06-watch [01-connect 02-put] 1/9/138\nbob here 04-delete [] 1/19/54"
	p.gone(".names/bob") // The name is free.
	step("ann removed 06-watch [01-connect 02-put] 0/0/138")

	// The past is what it was, also in a record that was saved.
	var saved bytes.Buffer
	if err := p.Save(&saved); err != nil {
		t.Fatal(err)
	}
	loaded, err := history.Load(&saved, history.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Roster{r, NewRoster(loaded)} {
		for i := len(all); i > 0; i-- {
			if got := told(t, r, int64(i)); got != all[i-1] {
				t.Errorf("back at revision %d:\n%s\nwant\n%s", i, got, all[i-1])
			}
		}
	}
	if _, err := r.At(p.Last() + 1); !errors.Is(err, history.ErrFuture) {
		t.Errorf("the future: %v", err)
	}
}

// TestRosterOfTheStore begins where a history begins: with keys, and nothing of how they
// came.
func TestRosterOfTheStore(t *testing.T) {
	keys := []*history.KeyValue{
		{Key: ".here/ann", Value: "02-put", Mod: 3, Create: 3, Version: 1},
		{Key: ".names/ann", Value: "hash", Mod: 2, Create: 2, Version: 1},
		{Key: "ann:/cron/jobs/op/job1", Value: "12", Mod: 8, Create: 8, Version: 1},
		{Key: "ann:/cron/jobs/watch/job1", Mod: 5, Create: 5, Version: 1},
	}
	record := history.New(history.Limits{}, 9, keys, time.Now())
	if got, want := told(t, NewRoster(record), 9), "ann here 07-op [02-put] 2/49/0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := NewRoster(record).At(8); !errors.Is(err, history.ErrForgotten) {
		t.Errorf("before it: %v", err)
	}
}

// TestRosterAnyWay asks for moments in any order, of a history with many marks that
// forgets, and compares with a roster that has read each from the beginning.
func TestRosterAnyWay(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	p := plant(t, history.Limits{Changes: 5 * marked})
	whole := plant(t, history.Limits{})
	r := NewRoster(p.Record)
	for i := range 100 {
		for _, to := range []planted{p, whole} {
			to.add(fmt.Sprintf(".names/l%02d", i), "hash")
		}
	}
	for range 12 {
		for i := range 1500 {
			name := fmt.Sprintf("l%02d:", random.IntN(100))
			one, two := name+lessons[random.IntN(len(lessons))].begin, name+lessons[random.IntN(len(lessons))].begin+"x"
			value := fmt.Sprint(random.IntN(1000))
			for _, to := range []planted{p, whole} {
				to.add(one, value, two, value)
			}
			if i%100 > 0 {
				continue
			}
			if _, err := r.At(p.Last()); err != nil {
				t.Fatal(err)
			}
		}
		// What a history has forgotten, nobody asks for.
		for range 5 {
			first := p.First() + 2*marked // Before that, a roster may have only the keys.
			if first > p.Last() {
				first = p.Last()
			}
			revision := first + random.Int64N(p.Last()-first+1)
			got, err := r.At(revision)
			if err != nil {
				t.Fatal(err)
			}
			want, err := NewRoster(whole.Record).At(revision)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("at revision %d of %d to %d:\n%+v\nwant\n%+v", revision, p.First(), p.Last(), got, want)
			}
		}
	}
	if p.First() == 1 || len(r.marks) < 3 || len(r.marks) > 8 {
		t.Errorf("the history begins at %d, and there are %d marks", p.First(), len(r.marks))
	}
	if got, err := r.At(p.First()); err != nil || len(got.Learners) != 100 {
		t.Errorf("at the beginning there are %d (%v)", len(got.Learners), err)
	}
}

// TestLessonsOfKeys reads the lessons: each key of theirs is known to be one.
func TestLessonsOfKeys(t *testing.T) {
	files, err := filepath.Glob("../../0*/main.go")
	if err != nil || len(files) != 8 {
		t.Fatalf("the lessons are %v (%v)", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lesson := filepath.Base(filepath.Dir(file))
		found := 0
		for _, part := range regexp.MustCompile(`= "(/cron/[^"]+)"`).FindAllSubmatch(text, -1) {
			found++
			if got := lessonOf(string(part[1])); got != lesson {
				t.Errorf("%s is a key of %s, not of %q", part[1], lesson, got)
			}
		}
		if found == 0 {
			t.Errorf("%s has no keys", lesson)
		}
	}
}

// BenchmarkRoster asks for the present of a class of 100 with 30,000 keys, after each
// change.
func BenchmarkRoster(b *testing.B) {
	p := plant(b, history.Limits{})
	for i := range 100 {
		p.add(fmt.Sprintf(".names/l%02d", i), "hash")
		var puts []string
		for n := range 300 {
			puts = append(puts, fmt.Sprintf("l%02d:/cron/jobs/get/%d", i, n), "value")
		}
		p.add(puts...)
	}
	r := NewRoster(p.Record)
	for i := 0; b.Loop(); i++ {
		p.add(fmt.Sprintf("l%02d:/cron/jobs/put/job1", i%100), "value")
		if s, err := r.At(p.Last()); err != nil || len(s.Learners) != 100 {
			b.Fatal(len(s.Learners), err)
		}
	}
}
