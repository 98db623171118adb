//go:build unix

package transcript

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// Class is a class that shares one etcd, with a learner who follows a page at a desk,
// each on a machine of their own, as far as the network goes.
type Class struct {
	teacher, learner *player
	members          int

	// ahead is by how many revisions the class's store is ahead of that of the page.
	ahead int
}

// OpenClass starts a class on an etcd with so many members, and has a learner join. It
// ends with the test. The error says that networks cannot be made here.
func OpenClass(t *testing.T, members int) (*Class, error) {
	t.Helper()
	etcdtest.NoError(t, warm())
	etcdtest.ReserveFirst(t, members)
	c := &Class{members: members}
	for _, p := range []**player{&c.teacher, &c.learner} {
		own, err := newMachine(t)
		if err != nil {
			return nil, err
		}
		*p = &player{dir: harness.Root, terminals: map[string]*terminal{}, machine: own}
		t.Cleanup((*p).close)
	}
	ports := []int{2378} // The members' follow it.
	for i := range members {
		ports = append(ports, 2380+2*i)
	}
	c.learner.network.Cable(t, c.teacher.network, ports...)
	printed, err := c.teacher.begin("Terminal 1", fmt.Sprintf("go run ./classroom -class -members %d -board off", members),
		"Ctrl-C ends the class.")
	etcdtest.NoError(t, err)
	join := regexp.MustCompile(`go run \./classroom join ` + regexp.QuoteMeta(harness.LocalAddress) + `:2378/\S+`).FindString(printed)
	if join == "" {
		t.Fatalf("it does not tell how to join:\n%s", printed)
	}
	if _, err := c.learner.begin("Terminal 1", join+" ann", "Ctrl-C leaves."); err != nil {
		t.Fatal(err)
	}
	return c, nil
}

// Play has the learner follow a session of a page, and compares what is printed with what
// the page shows: only the numbers of revisions are others, and what only the teacher may
// do, the teacher does.
func (c *Class) Play(t *testing.T, page *Page, session Session) {
	t.Helper()
	for _, b := range session {
		term, err := c.learner.terminal(b.terminal, c.learner.machine)
		etcdtest.NoError(t, err)
		for _, s := range b.Steps {
			if err := c.step(t.Context(), term, s); err != nil {
				t.Fatalf("%s, line %d, in %s, with revisions %d ahead: %v", page.Name, s.line, b.terminal, c.ahead, err)
			}
		}
	}
	// What the next session begins with is not what this one has left running.
	for name, term := range c.learner.terminals {
		if name != "Terminal 1" {
			term.close()
			delete(c.learner.terminals, name)
		}
	}
}

var (
	// revisions are the numbers of a page that are revisions, behind these words.
	revisions = regexp.MustCompile(`(@ |[Rr]evision |--rev |compaction |token |Revision" : |mod\("[^"]*"\) = ")([0-9]+)`)

	// teachersWork is what a learner may not do.
	teachersWork = regexp.MustCompile(`^go (run ./classroom member |tool etcdctl compaction )`)

	emptiedAt = regexp.MustCompile(`at revision ([0-9]+): what the page shows`)
	onMember  = regexp.MustCompile(`, 127\.0\.0\.1:2379, `) // in a list of members
)

func (c *Class) step(ctx context.Context, term *terminal, page *step) error {
	s := *page
	s.Command, s.want, s.draws = c.later(s.Command), nil, false
	for _, line := range page.want {
		s.want = append(s.want, c.later(line))
	}
	switch {
	case page.Command == Emptying:
		s.want = []string{"Your keys are gone. The store is shared, and at revision <0>: what the page shows at 2 is at <0> or later here."}
		if err := c.learner.step(ctx, term, &s); err != nil {
			return err
		}
		found := emptiedAt.FindStringSubmatch(s.got[0])
		revision, err := strconv.Atoi(found[1])
		c.ahead = revision - 1
		return err
	case strings.HasSuffix(page.Command, "member restart etcd1") && c.members > 1:
		// It is there to break a watch, which may be at any member.
		s.Command, s.want = "", nil
		for i := range c.members {
			s.Command += fmt.Sprintf("go run ./classroom member restart etcd%d; ", i+1)
			s.want = append(s.want, "<member>, <role>, https://127.0.0.1:<port>, process <pid>")
		}
		return c.byTeacher(ctx, &s)
	case teachersWork.MatchString(page.Command):
		for i, line := range s.want {
			s.want[i] = onMember.ReplaceAllString(strings.Replace(line, "leader", "<role>", 1), ", https://127.0.0.1:2380, ")
		}
		return c.byTeacher(ctx, &s)
	case strings.HasSuffix(page.Command, "lease grant 0") && c.members > 1:
		// The smallest TTL goes by the time that an election may take.
		s.want = []string{"lease <ID> granted with TTL(2s)"}
	}
	if len(s.want) == 0 && s.goesOn {
		return errors.New("nothing tells whether this has begun")
	}
	return c.learner.step(ctx, term, &s)
}

// byTeacher has the teacher do a step.
func (c *Class) byTeacher(ctx context.Context, s *step) error {
	own, err := c.teacher.terminal("Terminal 2", c.teacher.machine)
	if err != nil {
		return err
	}
	return c.teacher.step(ctx, own, s)
}

// later returns a line of the page as it is in a class, whose store is ahead.
func (c *Class) later(line string) string {
	return revisions.ReplaceAllStringFunc(line, func(found string) string {
		parts := revisions.FindStringSubmatch(found)
		revision, _ := strconv.Atoi(parts[2]) // They are digits.
		return parts[1] + strconv.Itoa(revision+c.ahead)
	})
}
