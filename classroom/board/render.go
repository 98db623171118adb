package board

import (
	"errors"
	"html/template"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"

	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/history"
)

// The panels, by the ids of their elements.
const (
	panelRevision = "revision"
	panelTrouble  = "trouble"
	panelTimeline = "timeline"
	panelKeys     = "keys"
	panelRenewals = "renewals"
	panelLeases   = "leases"
	panelLock     = "lock"
	panelMembers  = "members"
	panelClass    = "class"
	panelRoster   = "roster"
)

// stays is how long a panel stays as it is at least. The big ones come less
// often, so that many changes do not keep 100 browsers busy.
var stays = map[string]time.Duration{
	panelRevision: 20 * time.Millisecond,
	panelTimeline: 100 * time.Millisecond,
	panelTrouble:  50 * time.Millisecond,
	panelLock:     100 * time.Millisecond,
	panelLeases:   100 * time.Millisecond,
	panelRenewals: 100 * time.Millisecond,
	panelMembers:  100 * time.Millisecond,
	panelKeys:     500 * time.Millisecond,
	panelClass:    200 * time.Millisecond,
	panelRoster:   time.Second,
}

// every returns the panels of this board, with how long each stays as it is.
func (b *Board) every() map[string]time.Duration {
	panels := maps.Clone(stays)
	if !b.class {
		delete(panels, panelClass)
		delete(panels, panelRoster)
	}
	return panels
}

// render pushes the present to the browsers whenever something is new, until the
// board is closed.
func (b *Board) render() {
	every := b.every()
	last := map[string]time.Time{} // when a panel was rendered
	dirty := map[string]bool{}
	for b.ctx.Err() == nil {
		// What comes after this is heard of by the channels.
		other, record := b.source.Next(), b.source.Record()
		more := record.Next()
		for panel := range every {
			dirty[panel] = true
		}
		for waits := true; waits; {
			now := time.Now()
			var due []string
			var later <-chan time.Time
			for panel := range dirty {
				if left := every[panel] - now.Sub(last[panel]); left > 0 {
					later = time.After(left)
				} else {
					due = append(due, panel)
				}
			}
			// What is small and waited for comes first.
			slices.SortFunc(due, func(a, b string) int { return int(every[a] - every[b]) })
			present := b.scene(record, record.Present())
			for _, panel := range due {
				b.renderPanel(panel, present)
				last[panel] = now
				delete(dirty, panel)
			}
			select {
			case <-b.ctx.Done():
				return
			case <-other:
				waits = false
			case <-more:
				waits = false
			case <-later:
			}
		}
	}
}

func (b *Board) renderPanel(panel string, present scene) {
	content := b.panel(panel, present, true)
	guest := content
	if panel == panelMembers || panel == panelClass {
		guest = b.panel(panel, present, false)
	}
	b.stream.panel(panel, content, guest)
}

// panel returns the content of a panel. There are handles only where they may be used.
func (b *Board) panel(panel string, s scene, handles bool) template.HTML {
	switch panel {
	case panelRevision:
		return html("revision", s.moment.Revision)
	case panelTrouble:
		return html("trouble", trouble(b.source.Trouble(), s.moment.Members))
	case panelTimeline:
		return s.timeline(false, 0)
	case panelKeys:
		return html("keys", s.table(&b.rows))
	case panelRenewals:
		return html("renewals", b.source.Renewals())
	case panelLeases:
		return html("leases", s.leases())
	case panelLock:
		return html("lock", s.lock(b.told()))
	case panelClass:
		return html("class", s.classView(handles && b.config.Class != nil))
	case panelRoster:
		return html("roster", s.rosterView())
	default:
		return html("members", s.members(handles && b.config.Cluster != nil))
	}
}

// trouble says why etcd cannot be used, or nothing when it can.
func trouble(err error, members []history.Member) string {
	var said rpctypes.EtcdError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &said) && (said.Code() == codes.PermissionDenied ||
		said.Code() == codes.Unauthenticated || said.Code() == codes.InvalidArgument):
		return "etcd refuses to show what it has: " + cut(drawing.Visible(err.Error()), 200)
	case slices.ContainsFunc(members, func(m history.Member) bool { return m.Role.Answers() }):
		return "etcd has no leader: a majority of its members is gone."
	default:
		return "etcd does not answer. This is what was last seen."
	}
}
