// Package course has the lessons: their names, texts, code and flags, and how
// they are built and run. It knows no page on which they are shown.
package course

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"html/template"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"example.com/etcd-by-example/classroom/process"
)

// Names are the lessons in the order of the course. Each is a folder of the
// repository.
var Names = []string{
	"01-connect", "02-put", "03-get", "04-delete",
	"05-lease", "06-watch", "07-op", "08-txn-lock",
}

// Root returns the folder of the course: that of the go.work which Go uses, or else the
// nearest from here upwards. A folder in it may have a go.work of its own, as my has.
func Root(ctx context.Context) (string, error) {
	file, err := GoEnv(ctx, "GOWORK")
	if err != nil {
		return "", err
	}
	folder := filepath.Dir(file)
	if filepath.IsAbs(folder) && isRoot(folder) {
		return folder, nil
	}
	if folder, err = os.Getwd(); err != nil {
		return "", fmt.Errorf("find the course: %w", err)
	}
	for !isRoot(folder) {
		above := filepath.Dir(folder)
		if above == folder {
			return "", errors.New("this folder is not in the course: go to the one that has 01-connect in it")
		}
		folder = above
	}
	return folder, nil
}

// GoEnv returns the value of a variable of Go's, wherever it is set.
func GoEnv(ctx context.Context, name string) (string, error) {
	value, err := exec.CommandContext(ctx, "go", "env", name).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) && len(exit.Stderr) > 0 {
		said := strings.Split(strings.TrimSpace(string(exit.Stderr)), "\n")
		err = errors.New(said[len(said)-1])
	}
	if err != nil {
		return "", fmt.Errorf("run go env %s: %w", name, err)
	}
	return strings.TrimSpace(string(value)), nil
}

// isRoot returns whether the module is there that all parts of the course share.
func isRoot(folder string) bool {
	module, err := os.ReadFile(filepath.Join(folder, "shared", "go.mod"))
	return err == nil && strings.HasPrefix(string(module), "module example.com/etcd-by-example/shared")
}

// File is a Go file of a lesson.
type File struct {
	Path   string // in the repository, such as "06-watch/follow.go"
	Source []byte
}

// ID names the place of the file on a page. Links of Text lead there.
func (f File) ID() string { return "code-" + strings.ReplaceAll(f.Path, "/", "-") }

// Code returns the source as HTML, with numbered lines and classes that CSS knows.
func (f File) Code() (template.HTML, error) { return highlight(f.Source, true) }

// Files returns the Go files that a lesson is built from: main.go, and then the
// others by their names. It is an error when one has more than FileLimit bytes.
func Files(root, name string) ([]File, error) {
	entries, err := os.ReadDir(filepath.Join(root, name))
	if err != nil {
		return nil, err
	}
	inside := []string{"main.go"}
	for _, entry := range entries {
		file := entry.Name()
		// Go leaves out names that begin so; they are those of editors.
		isGo, _ := path.Match("[^._]*.go", file)
		if isGo && !entry.IsDir() && file != "main.go" && !strings.HasSuffix(file, "_test.go") {
			inside = append(inside, file)
		}
	}
	var files []File
	for _, file := range inside {
		source, err := read(root, name+"/"+file)
		if err != nil {
			return nil, err
		}
		files = append(files, File{name + "/" + file, source})
	}
	return files, nil
}

// Pictures is where the repository has the pictures of the lessons' text. Text
// wants them at the same place of the server.
const Pictures = "docs/pictures/"

var pictureName = regexp.MustCompile(`^\w[-.\w]*\.svg$`)

// Picture returns a picture of the lessons' text, an SVG of at most FileLimit
// bytes. A name that leads out of Pictures is an error, too.
func Picture(root, name string) ([]byte, error) {
	if !pictureName.MatchString(name) {
		return nil, fmt.Errorf("%q is no picture", name)
	}
	return read(root, Pictures+name)
}

// FileLimit is the size in bytes of the largest file that is shown.
const FileLimit = 1 << 20

// read returns the text of a file of the repository that is not too large to be shown.
// Git for Windows may have given its lines other ends.
func read(root, name string) ([]byte, error) {
	file, err := os.Open(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, FileLimit+1))
	if err == nil && len(content) > FileLimit {
		err = fmt.Errorf("%s is larger than %d bytes", file.Name(), FileLimit)
	}
	return bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")), err
}

// stopLimit is how long a program has to end after it was asked to.
const stopLimit = 5 * time.Second

// Build returns the path of a lesson's program, built from its source as it is
// now; what the compiler says goes to output. go run would not do, because a signal
// to it does not reach the lesson.
func Build(ctx context.Context, root, name string, output io.Writer) (string, error) {
	folder, err := Folder(root)
	if err == nil {
		err = BuildAll(ctx, root, folder, output, "./"+name)
	}
	return Executable(folder, filepath.Base(name)), err
}

// Executable returns the path of a program that was built into a folder.
func Executable(folder, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(folder, name)
}

// Folder returns where the programs of a clone lie when they are built. It stays, so that
// there is nothing to link when no source has changed.
func Folder(root string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for built lessons: %w", err)
	}
	clone := fnv.New64a() // Two clones must not build over each other.
	clone.Write([]byte(root))
	return filepath.Join(cache, "etcd-by-example", fmt.Sprintf("%016x", clone.Sum64())), nil
}

// BuildAll builds programs, given as packages, with one command, into a folder, each
// under the name of its own. They are not stamped with the commit: git does not tell it
// in a clone that belongs to another user, and then Go builds nothing. Without what a
// debugger needs they are half as large, and may lie in memory.
func BuildAll(ctx context.Context, root, folder string, output io.Writer, packages ...string) error {
	args := []string{"build", "-buildvcs=false", "-ldflags=-s -w", "-o", folder + string(filepath.Separator)}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, output, output
	// It has the go.work of the folder, not of who calls, and runs on this machine.
	cmd.Env = append(os.Environ(), "GOWORK=", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	// The compiler removes its temporary files when it is asked to end.
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("build it: %w", err)
	}
	return nil
}

// start starts cmd, which is asked to end, with all that it started, when its
// context ends.
func start(cmd *exec.Cmd) error {
	cmd.Cancel = func() error { return process.InterruptGroup(cmd.Process) }
	cmd.WaitDelay = stopLimit
	return process.Start(cmd)
}

var plainArgument = regexp.MustCompile(`^[-=.:/\w]+$`)

// Command returns what somebody would type at a terminal to run a lesson.
func Command(name string, args []string) string {
	line := "go run ./" + name
	for _, arg := range args {
		if !plainArgument.MatchString(arg) {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		line += " " + arg
	}
	return line
}

// Program is a run of a lesson.
type Program struct {
	Root, Name string
	Args, Env  []string
	// Stdout and Stderr get what it prints; Stderr also what the compiler says.
	Stdout, Stderr io.Writer
}

// building is full while a lesson is built or started: there is one build at a
// time, and none while a program is being started, because two runs of one
// lesson share its file.
var building = make(chan struct{}, 1)

// Run builds and runs a lesson until it ends, and calls started when its process
// is there. When ctx ends, the lesson is asked to end, and killed after 5 s. What
// it has started itself ends with it. The outcome is for people: how the lesson
// ended, with which status and after how long, or why it did not run.
func Run(ctx context.Context, p Program, started func(*os.Process)) (outcome string) {
	cmd, err := p.start(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return "stopped before it ran"
	case err != nil:
		return err.Error()
	}
	began := time.Now()
	started(cmd.Process)
	err = cmd.Wait()
	took := time.Since(began)
	process.KillGroup(cmd.Process)

	lasted := fmt.Sprintf("%.1f s", took.Seconds())
	if took < 100*time.Millisecond {
		lasted = fmt.Sprintf("%d ms", took.Milliseconds())
	}
	how := "ended"
	if ctx.Err() != nil {
		how = "stopped"
	}
	switch state := cmd.ProcessState; {
	case state == nil:
		return fmt.Sprintf("failed after %s: %v", lasted, err)
	case state.ExitCode() < 0:
		return fmt.Sprintf("%s, %s, %s", how, state, lasted)
	default:
		return fmt.Sprintf("%s, status %d, %s", how, state.ExitCode(), lasted)
	}
}

// start returns the process of the lesson, built anew. An error says why there is
// none.
func (p Program) start(ctx context.Context) (*exec.Cmd, error) {
	select {
	case building <- struct{}{}:
		defer func() { <-building }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	program, err := Build(ctx, p.Root, p.Name, p.Stderr)
	if err != nil {
		return nil, errors.New("it does not build") // The compiler has said why.
	}
	cmd := exec.CommandContext(ctx, program, p.Args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.Root, p.Env, p.Stdout, p.Stderr
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("it does not start: %w", err)
	}
	return cmd, nil
}
