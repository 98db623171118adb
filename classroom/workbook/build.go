package workbook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"example.com/etcd-by-example/classroom/course"
)

// ErrGoFailed says that Go cannot build on this machine, whatever the program is.
var ErrGoFailed = errors.New("no program builds here, which says nothing of yours")

// build returns the path of the learner's program in a folder, or, when it does not
// compile, what the compiler says.
func (b *Book) build(ctx context.Context, name, folder string) (program, said string, err error) {
	built, said, err := goBuild(ctx, b.path(), folder, "./"+name)
	if built || err != nil {
		program = filepath.Join(folder, name)
		if runtime.GOOS == "windows" {
			program += ".exe"
		}
		return program, "", err
	}
	if compiled.MatchString(said) {
		return "", said, nil
	}
	given, reason := false, said
	if ofProgram(said) {
		// Go says the same of any program when it cannot find what all of them import.
		if given, reason, err = goBuild(ctx, b.root, folder, "./exercises/"+name); err != nil {
			return "", "", err
		}
	}
	if given {
		return "", said, nil
	}
	return "", "", fmt.Errorf("%w: %s; go env -changed shows what is set here", ErrGoFailed, oneLine(reason))
}

// goBuild builds a package into a folder, and returns whether it did, and what Go says.
func goBuild(ctx context.Context, dir, folder, name string) (built bool, said string, err error) {
	var output bytes.Buffer
	err = course.BuildAll(ctx, dir, folder, &output, name)
	if ctx.Err() == nil && errors.As(err, new(*exec.ExitError)) {
		return false, strings.TrimSpace(output.String()), nil
	}
	return err == nil, "", err
}

var (
	// compiled matches what the compiler finds in a file of my: all that the file imports
	// was there.
	compiled = regexp.MustCompile(`(?m)^# .*\n[\w-][^:@]*\.go:\d+:`)

	// inMy matches what Go says of a line of a file in my, or of a package there as a whole.
	inMy = regexp.MustCompile(`^([\w-][^:@]*:\d+:|# |package |found packages |go: no main packages)`)

	// notFetched matches what it says of a module that it could not get.
	notFetched = regexp.MustCompile(`: \S+@v\S+: `)
)

// ofProgram returns whether Go names something in my that it cannot build.
func ofProgram(said string) bool {
	for line := range strings.Lines(said) {
		if inMy.MatchString(line) && !notFetched.MatchString(line) {
			return true
		}
	}
	return false
}

// oneLine returns the first line that says what is wrong, with the next one where that
// ends the sentence.
func oneLine(said string) string {
	lines := strings.Split(said, "\n")
	for len(lines) > 1 && (strings.HasPrefix(lines[0], "#") || strings.HasPrefix(lines[0], "go: downloading ")) {
		lines = lines[1:]
	}
	if len(lines) > 1 && strings.HasSuffix(lines[0], ":") {
		return lines[0] + " " + strings.TrimSpace(lines[1])
	}
	return lines[0]
}
