// Package etcdtest is what the tests of this repository stand on that start etcds: a
// TestMain after which nothing is left, however the tests end, and members of which no
// more run at a time than a small machine can bear.
package etcdtest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/tempdir"
)

// Lasting is the folder for temporary files that are to stay when the tests have ended,
// and Cache that of the user for what can be made again: os.TempDir and os.UserCacheDir
// as they were before Main gave the tests a folder of their own.
var Lasting, Cache string

var (
	long    = flag.Bool("long", false, "run what takes minutes as well")
	nightly = flag.Bool("nightly", false, "run all, at full length: hours")
)

// Long reports whether tests may take minutes: with -long, and with -nightly.
func Long() bool { return *long || *nightly }

// Nightly reports whether tests may take as long as they need to prove something.
func Nightly() bool { return *nightly }

// prefix begins the names of the folders of tests.
const prefix = "etcdtest-"

// allTests is how many tests run side by side: all of them. Those that start members wait
// for places, and -parallel bounds how many tests have some: see Reserve. If a test that
// waits kept another from running, it might wait for the parts of the one that has them.
const allTests = "10000"

// Main runs the tests of a package: a TestMain does nothing else. prepare, when it is not
// nil, is called before all else. A member of an etcd is this program again, and so is
// the keeper; both go no further than into this function.
//
// The tests have a folder of their own for temporary files, and on most systems for what
// the classroom caches, which goes with them. They fail when a process that they started
// is left when they have ended. When they end in another way, such as by a time-out, by a
// panic, by a signal or with the go command that has started them, the keeper ends those
// processes.
func Main(m *testing.M, prepare func() error) {
	cluster.Main()
	keeperMain()
	flag.Parse()
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "test.parallel" {
			holders = semaphore.NewWeighted(int64(f.Value.(flag.Getter).Get().(int)))
		}
	})
	flag.Set("test.parallel", allTests)
	os.Exit(run(m, prepare))
}

func run(m *testing.M, prepare func() error) (code int) {
	if prepare != nil {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := keepCaches(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	folder, err := tempdir.Make("", prefix)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("TMPDIR", folder.Path)
	os.Setenv("XDG_CACHE_HOME", folder.Path)
	k, err := startKeeper(folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, err, folder.Remove())
		return 1
	}
	go endWithParent()
	endWithSignal()
	code = m.Run()
	err = k.end()
	if failed := folder.Remove(); err == nil {
		err = failed
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// keepCaches has the go command keep its cache, wherever the tests have theirs.
func keepCaches() (err error) {
	Lasting = os.TempDir()
	if Cache, err = os.UserCacheDir(); err != nil {
		return fmt.Errorf("find the user's caches: %w", err)
	}
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return fmt.Errorf("find the cache of the go command: %w", err)
	}
	return os.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
}

// endWithParent ends the tests when the go command that has started them has ended, such
// as by kill -9: nobody would read what they say.
func endWithParent() {
	parent := os.Getppid()
	for os.Getppid() == parent {
		time.Sleep(500 * time.Millisecond)
	}
	os.Exit(1)
}

// endWithSignal ends the tests at Ctrl-C, and when the terminal hangs up. The background of
// a shell has what it starts ignore the first, and nohup the second: the programs of the
// tests would ignore them as well.
func endWithSignal() {
	goesOn := signal.Ignored(syscall.SIGHUP)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGHUP)
	go func() {
		for s := range signals {
			if s == os.Interrupt || !goesOn {
				os.Exit(1)
			}
		}
	}()
}

// buildFolder returns the folder in which the go command has built this program to run
// its tests, or "". A go command that is killed leaves it. Tests that other tests have
// started may have their program from elsewhere.
func buildFolder() string {
	program, err := os.Executable()
	if err != nil || os.Getenv(runVariable) != "" {
		return ""
	}
	folder := filepath.Dir(filepath.Dir(program))
	if found, _ := filepath.Match("go-build[0-9]*", filepath.Base(folder)); !found {
		return ""
	}
	return folder
}
