//go:build unix

package tests

import (
	"regexp"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/transcript"
)

// TestPagesInClass has a learner follow the page at a desk, in another network than the
// class's etcd: everything that README.md shows of the lessons is printed there, too.
// With -nightly, also on an etcd with three members.
func TestPagesInClass(t *testing.T) {
	etcdtest.NeedsLong(t, "all lessons of the page")
	t.Parallel()
	sizes := map[string]int{"one member": 1}
	if etcdtest.Nightly() {
		sizes["three members"] = 3
	}
	lesson := regexp.MustCompile(`^0[1-8]-`)
	for name, members := range sizes {
		t.Run(name, func(t *testing.T) {
			class, err := transcript.OpenClass(t, members)
			if err != nil {
				etcdtest.SkipUnlessCI(t, err)
			}
			page := readPages(t)[0]
			for _, session := range page.Sessions() {
				// Each member tells of itself in 01: that differs.
				if !lesson.MatchString(session.Name()) || members > 1 && session.Name() == "01-connect" {
					continue
				}
				t.Run(session.Name(), func(t *testing.T) { class.Play(t, page, session) })
			}
		})
	}
}
