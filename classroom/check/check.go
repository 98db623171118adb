// Package check puts an exercise's program through the failures that the lessons
// taught, and judges it: by the changes that etcd recorded, and by the program's exit
// status and output, never by its source.
//
// An exercise is a list of rounds, a file for each exercise. Every round has an etcd
// of its own, and a relay before each member for each program, through which a strike
// hits a call and not a time. A strike that did not happen is the judge's own failure,
// and never a pass.
package check

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"example.com/etcd-by-example/classroom/history"
)

// Exercise is a program to mend.
type Exercise struct {
	Name string // its folder in exercises, such as 02-put

	rounds []scenario
}

// scenario is one round: what is done to the program, and what it must have done.
type scenario struct {
	name    string // one word or a few, the Reason of a refusal
	members int    // 0 means 1
	play    func(*round)
}

// Exercises are all of them, in order.
var Exercises = []Exercise{connect, put, get, remove, lease, mirror, transfer, workers, cron}

// Find returns the exercise of a name, or of a number, such as 06-mirror, 06 or 6.
func Find(name string) (Exercise, error) {
	for _, e := range Exercises {
		number, _, _ := strings.Cut(e.Name, "-")
		if name == e.Name || name == number || "0"+name == number {
			return e, nil
		}
	}
	return Exercise{}, fmt.Errorf("there is no exercise %q: they are 01 to %02d", name, len(Exercises))
}

// Rounds returns the names of its rounds, in order.
func (e Exercise) Rounds() []string {
	var names []string
	for _, s := range e.rounds {
		names = append(names, s.name)
	}
	return names
}

// Result is what came of a check.
type Result struct {
	Passed bool

	// Round is the first in which the program was refused, "" when it passed, and Text
	// says what happened there, in order, and ends in one sentence that teaches. Rule
	// is the format of what was found, one of the judge's own literals.
	Round, Text, Rule string

	// Revision is the one at which something was wrong, or 0.
	Revision int64

	// Record is what etcd did in that round, and nil when the program passed.
	Record *history.Record

	// Stories are those of the rounds that were played to their end, in order.
	Stories []Story
}

// Story is a round as it happened.
type Story struct {
	Round   string
	Took    time.Duration
	Events  []Event
	Runs    []Output // of the program, in the order in which they began
	Refused string   // what was found, or ""
}

// Output is what a run of the program printed.
type Output struct {
	Args     []string
	Out, Err string
}

// Event is a strike that has happened, or anything else worth telling.
type Event struct {
	After    time.Duration // since the round began
	Revision int64         // that of the store then
	Text     string        // a sentence
}

// places bounds how many members run at the same time, of all checks of this process:
// each round has an etcd, and most of them wait most of the time.
var places = semaphore.NewWeighted(Members())

// Members returns how many members of etcd the checks of this process run at a time, at
// most.
func Members() int64 { return 3 * int64(runtime.GOMAXPROCS(0)) }

// errBefore ends the rounds after one that has refused the program.
var errBefore = errors.New("a round before has refused the program")

// Run checks a program, the path of a built exercise, and calls progress whenever a
// round has ended, with how many have. A program that is refused is no error: an error
// says that the judge could not judge, and why. When ctx ends, Run returns its error,
// after all programs and members that it started have ended.
//
// The program has the environment of this one, but for what points it at some etcd.
func Run(ctx context.Context, e Exercise, program string, progress func(ended int)) (Result, error) {
	played := make([]*round, len(e.rounds))
	cancels := make([]context.CancelCauseFunc, len(e.rounds))
	var mu sync.Mutex
	ended := 0
	var all sync.WaitGroup
	for i, s := range e.rounds {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		cancels[i] = cancel
		played[i] = &round{scenario: s, ctx: ctx, binary: program}
	}
	for i, r := range played {
		all.Go(func() {
			members := int64(max(r.members, 1))
			if places.Acquire(r.ctx, members) == nil {
				r.run()
				places.Release(members)
			} else {
				r.err = context.Cause(r.ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			if r.refused != nil {
				// What the later ones would find is not told.
				for _, cancel := range cancels[i+1:] {
					cancel(errBefore)
				}
			}
			ended++
			if progress != nil {
				progress(ended)
			}
		})
	}
	all.Wait()

	result := Result{Passed: true}
	for _, r := range played {
		if r.err != nil {
			if ctx.Err() != nil {
				return Result{}, ctx.Err()
			}
			return Result{}, fmt.Errorf("%s, round %q: %w", e.Name, r.name, r.err)
		}
		result.Stories = append(result.Stories, r.story())
		if r.refused != nil {
			result.Passed = false
			result.Round, result.Record = r.name, r.record
			result.Text, result.Rule = r.text(), r.refused.rule
			result.Revision = r.refused.revision
			break
		}
	}
	return result, nil
}

// text is what a refused learner reads.
func (r *round) text() string {
	var sentences []string
	for _, e := range r.events {
		sentences = append(sentences, e.Text)
	}
	sentences = append(sentences, r.refused.text)
	return strings.Join(sentences, " ")
}

func (r *round) story() Story {
	s := Story{Round: r.name, Took: r.took, Events: slices.Clone(r.events)}
	for _, p := range r.programs {
		s.Runs = append(s.Runs, Output{p.args, p.out.String(), p.said.String()})
	}
	if r.refused != nil {
		s.Refused = r.refused.text
	}
	return s
}
