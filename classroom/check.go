package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"example.com/etcd-by-example/classroom/check"
	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/workbook"
)

// The statuses of check. go run itself tells only whether it is 0.
const (
	statusRefused = 1
	statusUsage   = 2 // or it does not compile
	statusJudge   = 3 // the judge itself failed, or Go did, whatever the program is
)

// statusError ends the classroom with a status. With no error, all was said already.
type statusError struct {
	status int
	err    error
}

func (s statusError) Error() string { return fmt.Sprint(s.err) }

func (s statusError) Unwrap() error { return s.err }

func checkCommand() *cobra.Command {
	var verbose, asJSON, watch, givesUp bool
	command := &cobra.Command{
		Use:   "check [NUMBER]",
		Short: "Check an exercise, or list them",
		Long: "Check your program for an exercise: it is built, run against etcds of its own,\n" +
			"struck at the worst moment, and judged by what etcd recorded. Without a number,\n" +
			"list the exercises. Your copies are in the folder my; start makes one.\n\n" +
			"The status is 0 when it has passed, 1 when it was refused, 2 when it does not\n" +
			"compile or the call was wrong, and 3 when the judge itself failed, or Go did for a\n" +
			"reason that is not in your program.",
		Args: cobra.MaximumNArgs(1),
		RunE: onBook(func(ctx context.Context, book *workbook.Book, args []string) error {
			switch {
			case watch:
				return watchExercises(ctx, book, verbose)
			case len(args) == 0:
				return listExercises(book, asJSON)
			}
			return onExercise(args[0], func(e check.Exercise) error {
				return checkOne(ctx, book, e, verbose, asJSON)
			})
		}),
	}
	flags := command.Flags()
	flags.SortFlags = false
	flags.BoolVarP(&verbose, "verbose", "v", false, "tell each strike as it happened, with revisions")
	flags.BoolVar(&watch, "watch", false, "check again whenever a file in my is saved, until Ctrl-C")
	flags.BoolVar(&asJSON, "json", false, "print the verdict as JSON")

	// one returns the command that does something with one exercise.
	one := func(name, short string, do func(*workbook.Book, check.Exercise) error) *cobra.Command {
		return &cobra.Command{
			Use:   name + " NUMBER",
			Short: short,
			Args:  exactly(1, "check "+name+" NUMBER"),
			RunE: onBook(func(_ context.Context, book *workbook.Book, args []string) error {
				return onExercise(args[0], func(e check.Exercise) error { return do(book, e) })
			}),
		}
	}
	solution := one("solution", "Write the solution beside your program, after it has passed",
		func(book *workbook.Book, e check.Exercise) error {
			file, err := book.Solution(e, givesUp)
			if errors.Is(err, workbook.ErrNotPassed) {
				err = fmt.Errorf("%w: try a hint, or add -give-up", err)
			}
			if err == nil {
				fmt.Println("The solution is in", file)
			}
			return err
		})
	solution.Args = exactly(1, "check solution NUMBER [-give-up]")
	solution.Flags().BoolVar(&givesUp, "give-up", false, "before it has passed, too")
	all := &cobra.Command{
		Use:   "all",
		Short: "Check all exercises, side by side",
		Args:  exactly(0, "check all [-json]"),
		RunE: onBook(func(ctx context.Context, book *workbook.Book, _ []string) error {
			return checkAll(ctx, book, asJSON)
		}),
	}
	all.Flags().BoolVar(&asJSON, "json", false, "print the verdicts as JSON")
	command.AddCommand(
		one("start", "Make a copy of an exercise to work on", func(book *workbook.Book, e check.Exercise) error {
			made, err := book.Start(e)
			if err != nil {
				return err
			}
			if made {
				fmt.Println("Your copy is", workbook.File(e.Name))
			} else {
				fmt.Println("You have a copy:", workbook.File(e.Name))
			}
			fmt.Printf("Read its first lines, mend it, and check it: go run ./classroom check %s\n", e.Name[:2])
			return nil
		}),
		one("hint", "Show the next of three hints", func(book *workbook.Book, e check.Exercise) error {
			text, number, of, err := book.Hint(e)
			if err == nil {
				fmt.Printf("Hint %d of %d:\n\n%s\n", number, of, text)
			}
			return err
		}),
		one("reset", "Make a fresh copy; the old one is kept beside it",
			func(book *workbook.Book, e check.Exercise) error {
				kept, err := book.Reset(e)
				if err != nil {
					return err
				}
				old := "the old one is"
				if len(kept) > 1 {
					old = "the old ones are"
				}
				fmt.Printf("%s is fresh; %s %s\n", workbook.File(e.Name), old, strings.Join(kept, ", "))
				return nil
			}),
		solution, all)
	for _, c := range append(command.Commands(), command) {
		arguments := c.Args
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := arguments(cmd, args); err != nil {
				return statusError{statusUsage, err}
			}
			return nil
		}
	}
	return command
}

// onBook runs do with the learner's book.
func onBook(do func(context.Context, *workbook.Book, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		root, err := course.Root(cmd.Context())
		if err != nil {
			return statusError{statusJudge, err}
		}
		return do(cmd.Context(), workbook.Open(root), args)
	}
}

// onExercise runs do with the exercise of that name or number.
func onExercise(name string, do func(check.Exercise) error) error {
	e, err := check.Find(name)
	if err == nil {
		err = do(e)
	}
	if errors.Is(err, workbook.ErrNotStarted) {
		err = fmt.Errorf("%w: go run ./classroom check start %s", err, e.Name[:2])
	}
	if err != nil && !errors.As(err, new(statusError)) {
		err = statusError{statusUsage, err}
	}
	return err
}

// listExercises prints how far the learner has come.
func listExercises(book *workbook.Book, asJSON bool) error {
	states, err := book.States()
	if err != nil {
		return statusError{statusJudge, err}
	}
	if asJSON {
		return printJSON(states)
	}
	for i, s := range states {
		line := states.Mark(i) + " " + s.Name
		if s.Last != nil && !s.Last.Passed && !s.Changed {
			line += "  " + s.Last.Reason
		}
		fmt.Println(line)
	}
	fmt.Printf("%d of %d passed\n", states.Passed(), len(states))
	if next := states.Next(); next >= 0 {
		do := "check "
		if !states[next].Started {
			do += "start "
		}
		fmt.Printf("next: go run ./classroom %s%s\n", do, states[next].Name[:2])
	}
	return nil
}

// checkOne checks one exercise, and prints the verdict.
func checkOne(ctx context.Context, book *workbook.Book, e check.Exercise, verbose, asJSON bool) error {
	v, result, err := book.Check(ctx, e, progressLine(e))
	if err != nil {
		return notJudged(ctx, v, err, asJSON)
	}
	if asJSON {
		if err := printJSON(v); err != nil {
			return err
		}
	} else {
		if verbose {
			tellStories(e, result.Stories)
		}
		tell(e, v, result)
	}
	return ofVerdict(v)
}

// checkAll checks all exercises side by side.
func checkAll(ctx context.Context, book *workbook.Book, asJSON bool) error {
	verdicts := make([]workbook.Verdict, len(check.Exercises))
	failures := make([]error, len(verdicts))
	var all sync.WaitGroup
	for i, e := range check.Exercises {
		all.Go(func() {
			verdicts[i], _, failures[i] = book.Check(ctx, e, nil)
			if err := failures[i]; err != nil {
				verdicts[i].Reason, verdicts[i].Text = reasonOf(err), err.Error()
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return statusError{statusJudge, errors.New("interrupted")}
	}
	worst := statusError{}
	for i, v := range verdicts {
		of := ofVerdict(v)
		if failures[i] != nil {
			of = statusError{status: statusJudge}
		}
		var s statusError
		if errors.As(of, &s) && s.status > worst.status {
			worst = s
		}
		if !asJSON {
			mark := "✓"
			if !v.Passed {
				mark = "·"
			}
			fmt.Printf("%s %-12s %5.1f s  %s\n", mark, v.Exercise, v.Seconds, v.Reason)
		}
	}
	if asJSON {
		if err := printJSON(verdicts); err != nil {
			return err
		}
	}
	if worst.status > 0 {
		return worst
	}
	return nil
}

// watchExercises checks the first exercise that is not mended yet, and then whichever
// is saved, until ctx ends.
func watchExercises(ctx context.Context, book *workbook.Book, verbose bool) error {
	states, err := book.States()
	if err != nil {
		return statusError{statusJudge, err}
	}
	next := states.Current()
	fmt.Println("Save a file in my, and it is checked. Ctrl-C ends this.")
	saved := book.Saved()
	for {
		checking, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		if next >= 0 {
			e := check.Exercises[next]
			fmt.Printf("\n── %s ──\n", e.Name)
			running.Go(func() {
				err := checkOne(checking, book, e, verbose, false)
				if s := (statusError{}); errors.As(err, &s) && s.err != nil && checking.Err() == nil {
					fmt.Println(s.err)
				}
			})
		}
		now := awaitSave(ctx, book, saved)
		cancel() // What is checked is not the file any more.
		running.Wait()
		if now == nil {
			return nil
		}
		next = slices.IndexFunc(check.Exercises, func(e check.Exercise) bool { return now[e.Name] != saved[e.Name] })
		saved = now
	}
}

// awaitSave returns the copies when they are others than those saved, or nil when ctx
// has ended.
func awaitSave(ctx context.Context, book *workbook.Book, saved map[string]string) map[string]string {
	const every = 300 * time.Millisecond
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
		if now := book.Saved(); !maps.Equal(now, saved) {
			return now
		}
	}
}

// tell prints a verdict.
func tell(e check.Exercise, v workbook.Verdict, result check.Result) {
	number := v.Exercise[:2]
	switch {
	case v.Passed:
		fmt.Printf("✓ %s: passed %d rounds in %.1fs\n", v.Exercise, len(result.Stories), v.Seconds)
		fmt.Printf("  The solution, to compare: go run ./classroom check solution %s\n", number)
	case v.Reason == workbook.NotStarted:
		fmt.Printf("%s: %s\n", v.Exercise, v.Text)
	case v.Reason == workbook.NotBuilt:
		fmt.Printf("%s does not compile:\n\n%s\n", v.Exercise, v.Text)
	default:
		fmt.Printf("%s is refused in the round %q, %d of %d:\n\n%s\n\n", v.Exercise, v.Reason,
			len(result.Stories), len(e.Rounds()), strings.Join(drawing.Lines(v.Text, 78), "\n"))
		fmt.Printf("a picture of it   go run ./classroom draw %s -o my/%s.svg\n", v.History, number)
		fmt.Printf("a hint            go run ./classroom check hint %s\n", number)
	}
}

// tellStories prints each round as it happened, and what the program printed in the one
// that refused it.
func tellStories(e check.Exercise, stories []check.Story) {
	for _, s := range stories {
		mark := "✓"
		if s.Refused != "" {
			mark = "✗"
		}
		fmt.Printf("%s %s, %.1f s\n", mark, s.Round, s.Took.Seconds())
		for _, event := range s.Events {
			fmt.Printf("  %5.2f s, revision %d: %s\n", event.After.Seconds(), event.Revision, event.Text)
		}
		if s.Refused == "" {
			continue
		}
		for _, run := range s.Runs {
			fmt.Println("  $", e.Name, strings.Join(run.Args, " "))
			tellOutput("stdout", run.Out)
			tellOutput("stderr", run.Err)
		}
	}
	fmt.Println()
}

// tellOutput prints the last lines of what a program printed.
func tellOutput(where, text string) {
	const most = 20
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if left := len(lines) - most; left > 0 {
		fmt.Printf("    %s: … %d lines before\n", where, left)
		lines = lines[left:]
	}
	for _, line := range lines {
		if line != "" {
			fmt.Printf("    %s: %s\n", where, drawing.Visible(strings.ReplaceAll(line, "\t", "  ")))
		}
	}
}

// ofVerdict returns the error with the status of a verdict, or nil when it has passed.
func ofVerdict(v workbook.Verdict) error {
	switch {
	case v.Passed:
		return nil
	case v.Reason == workbook.NotStarted, v.Reason == workbook.NotBuilt:
		return statusError{status: statusUsage}
	default:
		return statusError{status: statusRefused}
	}
}

// notJudged tells that the judge failed.
func notJudged(ctx context.Context, v workbook.Verdict, err error, asJSON bool) error {
	if ctx.Err() != nil {
		return statusError{statusJudge, errors.New("interrupted")}
	}
	if asJSON {
		v.Reason, v.Text = reasonOf(err), err.Error()
		if err := printJSON(v); err != nil {
			return err
		}
		return statusError{status: statusJudge}
	}
	if !errors.Is(err, workbook.ErrGoFailed) {
		err = fmt.Errorf("the judge failed, which says nothing of your program: %w", err)
	}
	return statusError{statusJudge, err}
}

// reasonOf returns the Reason for an error of a check.
func reasonOf(err error) string {
	if errors.Is(err, workbook.ErrGoFailed) {
		return workbook.GoFailed
	}
	return workbook.NotJudged
}

func printJSON(value any) error {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// progressLine returns what shows in one line of a terminal how far a check has come.
func progressLine(e check.Exercise) func(ended int) {
	info, err := os.Stderr.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "dumb" {
		return nil
	}
	rounds := len(e.Rounds())
	show := func(ended int) { fmt.Fprintf(os.Stderr, "\r%s: %d of %d rounds", e.Name, ended, rounds) }
	show(0)
	return func(ended int) {
		show(ended)
		if ended == rounds {
			fmt.Fprint(os.Stderr, "\r\x1b[K")
		}
	}
}
