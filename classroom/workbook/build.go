package workbook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	gobuild "go/build"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/tempdir"
)

// ErrGoFailed says that Go cannot build on this machine, whatever the program is.
var ErrGoFailed = errors.New("no program builds here, which says nothing of yours")

// moduleLine is where a go.mod names its module.
var moduleLine = regexp.MustCompile(`(?m)^module (\S+)`)

// sources returns the files from which Go builds a program, from my: those in its folder,
// the packages of my that these import, also of modules in there, and what all of them embed.
func (b *Book) sources(name string) []string {
	files, program := b.inFolder(name)
	my := os.DirFS(b.path())
	modules := map[string]string{} // by the folder
	for _, pattern := range []string{"go.mod", "*/go.mod"} {
		found, _ := fs.Glob(my, pattern)
		for _, file := range found {
			text, _ := fs.ReadFile(my, file)
			if named := moduleLine.FindSubmatch(text); named != nil {
				modules[path.Dir(file)] = string(named[1])
			}
		}
	}
	for packages := []*gobuild.Package{program}; len(packages) > 0; packages = packages[1:] {
		for _, imported := range packages[0].Imports {
			for folder, module := range modules {
				inside, ours := strings.CutPrefix(imported+"/", module+"/")
				if !ours {
					continue
				}
				if more, p := b.inFolder(path.Join(folder, inside)); len(more) > 0 && !slices.Contains(files, more[0]) {
					files, packages = append(files, more...), append(packages, p)
				}
			}
		}
		folder, err := filepath.Rel(b.path(), packages[0].Dir)
		if err != nil {
			continue
		}
		for _, pattern := range packages[0].EmbedPatterns {
			embedded, _ := fs.Glob(my, path.Join(filepath.ToSlash(folder), strings.TrimPrefix(pattern, "all:")))
			for _, top := range embedded {
				fs.WalkDir(my, top, func(file string, entry fs.DirEntry, err error) error {
					if err == nil && entry.Type().IsRegular() && !slices.Contains(files, file) {
						files = append(files, file)
					}
					return err
				})
			}
		}
	}
	slices.Sort(files)
	return files
}

// inFolder returns the Go files from which a package of my is built, from my, and what else
// Go knows of it.
func (b *Book) inFolder(folder string) (files []string, p *gobuild.Package) {
	p, _ = gobuild.ImportDir(b.path(folder), 0) // What is wrong there, Go says when it builds.
	for _, file := range slices.Concat(p.GoFiles, p.CgoFiles) {
		files = append(files, path.Join(folder, file))
	}
	return files, p
}

// newFolder makes a folder for a program that is built and run at once. It is where Go has
// such folders: from where other temporary files are, programs may be forbidden to run.
func newFolder(ctx context.Context) (*tempdir.Dir, error) {
	parent, err := course.GoEnv(ctx, "GOTMPDIR")
	if err != nil {
		return nil, goFailed(err.Error())
	}
	folder, err := tempdir.Make(parent, "classroom-check-")
	if err != nil && parent != "" {
		err = goFailed(err.Error())
	}
	return folder, err
}

// goFailed is ErrGoFailed, with the reason and what to do.
func goFailed(reason string) error {
	next := "mend that first: go env -changed shows what is set here"
	if tempdir.IsFull(reason) {
		next = "make room, or name other folders with TMPDIR and GOCACHE"
	}
	return fmt.Errorf("%w: %s; %s", ErrGoFailed, reason, next)
}

// build returns the path of the learner's program in a folder, or, when it does not
// compile, what the compiler says.
func (b *Book) build(ctx context.Context, name, folder string) (program, said string, err error) {
	built, said, err := goBuild(ctx, b.path(), folder, "./"+name)
	if built || err != nil {
		return course.Executable(folder, name), "", err
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
	return "", "", goFailed(oneLine(reason))
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
