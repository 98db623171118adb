package check

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"example.com/etcd-by-example/classroom/relay"
)

// Exercise 03 lists a thousand jobs in pages, as they are at one moment.
var get = Exercise{"03-get", []scenario{
	{name: "start", play: func(r *round) { list(r, nil) }},
	{name: "moved", play: func(r *round) {
		list(r, func(read, unread []string) { rename(r, read, unread) })
	}},
	{name: "replaced", play: func(r *round) {
		list(r, func(read, unread []string) {
			old, young := inMiddle(read), inMiddle(unread)
			r.tell("While its third page was on the way, %s, which it had read, and %s, which it had not, "+
				"got a new value at revision %d.", jobName(old), jobName(young), r.put(old, "run never", young, "run never"))
		})
	}},
	{name: "compaction", play: func(r *round) {
		list(r, func(read, unread []string) {
			at := rename(r, read, unread)
			r.compact(at)
			r.tell("Then the history before revision %d was compacted.", at)
		})
	}},
}}

const (
	listDir = "/cron/jobs/"

	// pageLimit is how many keys an answer may hold.
	pageLimit = 100

	// listLimit is what a list may take: etcd is always there, but a program may give
	// all its calls together 10 s.
	listLimit = 12 * time.Second
)

func jobName(key string) string { return strings.TrimPrefix(key, listDir) }

func inMiddle(keys []string) string { return keys[len(keys)/2] }

// rename gives a job that was not read yet a name between those that were read. It
// deletes one of these too, or else who counts the keys again finds one more than it
// has got. It returns the revision.
func rename(r *round, read, unread []string) int64 {
	from, to, gone := inMiddle(unread), inMiddle(read)+"a", read[len(read)/4]
	value, _ := r.value(r.sync(), from)
	at := r.commit(clientv3.OpDelete(from), clientv3.OpPut(to, value), clientv3.OpDelete(gone))
	r.tell("While its third page was on the way, %s, which it had not read yet, was renamed to %s, and %s, "+
		"which it had read, was deleted, both at revision %d.", jobName(from), jobName(to), jobName(gone), at)
	return at
}

// list runs the program on a thousand jobs, and judges its list. meanwhile, when it is
// set, happens while the third page is on its way, given the keys that the program has
// read by then and those that it has not, both in order.
func list(r *round, meanwhile func(read, unread []string)) {
	var all []string
	for range 10 {
		var some []string
		for range 100 {
			key := fmt.Sprintf("%sjob%04d", listDir, len(all))
			all = append(all, key)
			some = append(some, key, fmt.Sprintf("run at %02d:%02d", rand.IntN(24), rand.IntN(60)))
		}
		r.put(some...)
	}
	// So the store's revision is not that of the newest job.
	began := r.put(append(beside(listDir), "/cron/lock/job0000", "mia")...)

	p := r.program()
	reading := &pages{woken: r.woken, keys: map[string]bool{}}
	p.seen = reading.see
	if meanwhile != nil {
		p.strike("the third page of jobs", reading.third, func(c *call) {
			// Who reads pages at the same time has asked for three before one has come.
			if !r.wait(judgeLimit, func() bool { return reading.come() >= 2 }) {
				r.fail(errors.New("two pages were asked for before the third, and did not come"))
			}
			read, unread := reading.split(all)
			if len(unread) == 0 {
				r.fail(errors.New("the program had read all jobs before its third page"))
			}
			meanwhile(read, unread)
			c.pass()
		})
	}
	p.run(listLimit)
	if most := reading.largest(); most > pageLimit {
		r.refuse(0, "An answer of etcd held %d keys. While it gathers them, all others wait: "+
			"how many does the program ask for at once?", most)
	}
	p.succeed(listLimit, "What happens to the store meanwhile is no reason to end without a list.")
	judgeList(r, began, strings.Split(strings.TrimSuffix(p.out.String(), "\n"), "\n"))
}

// judgeList judges what was printed by a program that began at a revision.
func judgeList(r *round, began int64, printed []string) {
	var number int
	var at int64
	fmt.Sscanf(printed[0], "%d jobs at revision %d", &number, &at)
	if printed[0] != fmt.Sprintf("%d jobs at revision %d", number, at) {
		r.refuse(0, "The first line is %q. It does not tell how many jobs there are, and at which revision.", printed[0])
	}
	if ended := r.sync(); at < began || at > ended {
		r.refuse(0, "The list says that it is of revision %d, but the store was at revision %d when the program "+
			"began, and at %d when it ended. Which moment does the list show?", at, began, ended)
	}
	then, now := map[string]string{}, map[string]string{} // lines, by the name
	var want []string
	for kv := range r.at(at).Range(listDir) {
		line := fmt.Sprintf("%s -> %q", jobName(kv.Key), kv.Value)
		want = append(want, line)
		then[jobName(kv.Key)] = line
	}
	for _, line := range printed[1:] {
		job, _, _ := strings.Cut(line, " -> ")
		now[job] = line
	}
	for _, line := range printed[1:] {
		if strings.HasSuffix(line, fmt.Sprintf(" -> %q", elsewhere)) {
			r.refuse(at, "The list has the line %s, and there is no such job under %s. "+
				"Which keys begin with what the program reads?", line, listDir)
		}
	}
	wrong := ""
	for _, line := range want {
		job, _, _ := strings.Cut(line, " -> ")
		if now[job] == "" {
			wrong = fmt.Sprintf("%s is not in it, and was there then", job)
			break
		} else if now[job] != line {
			wrong = fmt.Sprintf("it has %s, and that was %s then", now[job], line)
			break
		}
	}
	for _, line := range printed[1:] {
		if job, _, _ := strings.Cut(line, " -> "); wrong == "" && then[job] == "" {
			wrong = fmt.Sprintf("%s is in it, and was not there then", job)
		}
	}
	switch {
	case wrong != "":
	case !slices.Equal(want, printed[1:]):
		wrong = "its lines are not in the order of the keys, each once"
	case number != len(want):
		wrong = fmt.Sprintf("it says that there are %d jobs, and there were %d then", number, len(want))
	}
	if wrong != "" {
		r.refuse(at, "The list says that it is of revision %d, but %s. "+
			"Each page is right at a moment of its own: what makes one list of them?", at, wrong)
	}
}

// pages are what a program reads of the jobs.
type pages struct {
	woken chan<- struct{}

	mu    sync.Mutex
	asked int
	sizes []int           // how many keys each answer had that had any
	keys  map[string]bool // those that have come
}

// see is told of each message.
func (p *pages) see(m *relay.Message) {
	if !m.Reads.Under(listDir) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !m.Answered {
		if asksForKeys(m.Request) {
			p.asked++
		}
		return
	}
	if keys := keysIn(m.Answer); len(keys) > 0 {
		p.sizes = append(p.sizes, len(keys))
		for _, key := range keys {
			p.keys[key] = true
		}
		wake(p.woken)
	}
}

// third matches the request for the third page, whatever its order is.
func (p *pages) third(_ *round, m *relay.Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !m.Answered && m.Reads.Under(listDir) && asksForKeys(m.Request) && p.asked >= 3
}

// come returns how many pages have come.
func (p *pages) come() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sizes)
}

// largest returns how many keys the largest answer had.
func (p *pages) largest() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Max(append(p.sizes, 0))
}

// split returns which of the keys have come, and which have not.
func (p *pages) split(all []string) (read, unread []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range all {
		if p.keys[key] {
			read = append(read, key)
		} else {
			unread = append(unread, key)
		}
	}
	return read, unread
}

// asksForKeys reports whether a request wants more than a number of keys.
func asksForKeys(message proto.Message) bool {
	switch m := message.(type) {
	case *pb.RangeRequest:
		return !m.CountOnly
	case *pb.TxnRequest:
		return slices.ContainsFunc(slices.Concat(m.Success, m.Failure), func(op *pb.RequestOp) bool {
			return asksForKeys(inner(op))
		})
	}
	return false
}

// keysIn returns the keys that an answer brings, in a transaction, in a stream or neither.
func keysIn(message proto.Message) (keys []string) {
	switch m := message.(type) {
	case *pb.RangeResponse:
		for _, kv := range m.Kvs {
			keys = append(keys, string(kv.Key))
		}
	case *pb.RangeStreamResponse:
		return keysIn(m.RangeResponse)
	case *pb.TxnResponse:
		for _, op := range m.Responses {
			keys = append(keys, keysIn(inner(op))...)
		}
	}
	return keys
}
