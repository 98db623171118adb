package check

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"
)

// Exercise 04 deletes the keys of one image, and tells what it has deleted.
var remove = Exercise{"04-delete", []scenario{
	{name: "start", play: func(r *round) {
		r.put(cirros()...)
		deleteCirros(r)
	}},
	{name: "neighbour", play: func(r *round) {
		r.put(append(cirros(), images+"cirros.old", "v4", images+"cirros2/kernel", "v6",
			images+"debian/kernel", "v6")...)
		r.tell("Beside the keys of cirros there were %[1]scirros.old, %[1]scirros2/kernel and %[1]sdebian/kernel.", images)
		deleteCirros(r)
	}},
	{name: "added", play: func(r *round) {
		r.put(cirros()...)
		deleteCirros(r, func(p *program) {
			p.strike("a delete of "+ofCirros, writes(ofCirros), func(c *call) {
				// A key more shows in the number as well, a new value in its line alone.
				at := r.put(ofCirros+"ramdisk", "v1", ofCirros+"size", "14 MiB")
				r.tell("While its delete was on the way, another put %[1]sramdisk, and a new value of %[1]ssize, "+
					"at revision %[2]d.", ofCirros, at)
				c.pass()
			})
		})
	}},
	{name: "not there", play: func(r *round) {
		r.tell("There was no image cirros.")
		deleteCirros(r)
	}},
	{name: "empty name", play: func(r *round) {
		r.put(cirros()...)
		r.tell("The program was run with -image \"\".")
		p := r.program("-image", "")
		p.run(deleteLimit)
		if deleted := r.changes(images); len(deleted) > 0 {
			r.refuse(deleted[0].Revision, "At revision %d it deleted %s. Which keys begin with what it deletes?",
				deleted[0].Revision, deleted[0].Key)
		}
		if p.status != 1 {
			r.refuse(0, "It ended with status %d. An empty name is mostly a variable that was not set: "+
				"how would the caller learn of that?", p.status)
		}
	}},
}}

const (
	images   = "/images/"
	ofCirros = images + "cirros/"

	// deleteLimit is what a delete may take: etcd is always there.
	deleteLimit = 10 * time.Second
)

// cirros is the image, as keys and values in turn. Who has written the answer down has
// taken it from the exercise's text.
func cirros() []string {
	return []string{ofCirros + "arch", "x86", ofCirros + "kernel", fmt.Sprintf("v%d", 10+rand.IntN(90)),
		ofCirros + "size", "12 MiB"}
}

// deleted matches the lines that are looked at.
var deleted = regexp.MustCompile(`^/.* was ".*"$|^deleted [0-9]+$`)

// deleteCirros runs the program, with strikes, and judges what it has deleted and told.
func deleteCirros(r *round, strikes ...func(*program)) {
	p := r.program("-image", "cirros")
	p.out.judged = deleted
	for _, set := range strikes {
		set(p)
	}
	p.run(deleteLimit)
	changes := r.changes(images)
	for _, c := range changes {
		first := changes[0].Revision
		switch {
		case c.After != nil:
			r.refuse(c.Revision, "At revision %d the program put %s. It was asked to delete an image: "+
				"for whom is that key?", c.Revision, c.Key)
		case !strings.HasPrefix(c.Key, ofCirros):
			r.refuse(c.Revision, "At revision %d the program deleted %s, which is no key of cirros. "+
				"Which keys begin with what it deletes?", c.Revision, c.Key)
		case c.Revision != first:
			r.refuse(c.Revision, "At revision %d the program deleted %s, and at revision %d %s. "+
				"What would one who reads in between take for the image?", first, changes[0].Key, c.Revision, c.Key)
		}
	}
	p.succeed(deleteLimit, "The caller wants the image not to be there: what stands in the way?")
	at := r.sync()
	if len(changes) > 0 {
		at = changes[0].Revision
	}
	for kv := range r.at(at).Range(ofCirros) {
		r.refuse(at, "The program ended with status 0, but %s, put at revision %d, was still there at revision %d. "+
			"Who can tell which keys there are in the moment of the delete?", kv.Key, kv.Mod, at)
	}
	var want, got []string
	for _, c := range changes {
		want = append(want, fmt.Sprintf("%s was %q", c.Key, c.Before.Value))
	}
	want = append(want, fmt.Sprintf("deleted %d", len(changes)), "nothing more")
	for _, line := range strings.Split(p.out.String(), "\n") {
		if deleted.MatchString(line) {
			got = append(got, line)
		}
	}
	got = append(got, "nothing more")
	for i := range want {
		if got[i] != want[i] {
			r.refuse(at, "Of the delete at revision %d, line %d would be true as: %s. The program printed: %s. "+
				"Who knows what a delete deletes?", at, i+1, want[i], got[i])
		}
	}
}
