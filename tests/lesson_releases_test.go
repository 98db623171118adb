package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/version"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// releases are the versions of the etcd server that the lessons run against:
// the newest patch releases of earlier minors, and the one of this workspace.
var releases = [...]string{"3.5.35", "3.6.16", version.Version}

// sizes are the numbers of members.
var sizes = [...]int{1, 3}

// TestReleases runs the tour, unchanged, against servers of these releases. With
// all of them it must print the same.
func TestReleases(t *testing.T) {
	etcdtest.NeedsNightly(t, "it builds other etcd servers")
	// All tours build the lessons into the same folder. This one does, and fails
	// at once; those that run side by side then find them built.
	harness.Run(t, harness.Nobody, nil, "classroom", "tour")
	t.Parallel()

	var printed [len(releases)][len(sizes)][]string
	t.Run("tour", func(t *testing.T) {
		for i, release := range releases {
			t.Run(release, func(t *testing.T) {
				t.Parallel()
				program := ""
				if release != version.Version {
					program = buildServer(t, release)
				}
				for j, size := range sizes {
					t.Run(fmt.Sprint("members ", size), func(t *testing.T) {
						t.Parallel()
						printed[i][j] = tourOf(t, release, program, size)
					})
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	newest := printed[len(releases)-1]
	for i, release := range releases {
		for j, size := range sizes {
			got, want := printed[i][j], newest[j]
			for k := range min(len(got), len(want)) {
				if got[k] != want[k] {
					t.Errorf("members %d, line %d of the tour\nwith etcd %s: %s\nwith etcd %s: %s",
						size, k+1, release, got[k], version.Version, want[k])
					break
				}
			}
		}
	}
}

// tourOf runs the tour against members of that release, and returns what it
// prints, as lines without what differs from run to run.
func tourOf(t *testing.T, release, program string, members int) []string {
	t.Helper()
	etcd := etcdtest.Etcd(t, cluster.Config{Program: program, Members: members})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	for _, endpoint := range etcd.Endpoints() {
		status, err := client.Status(etcdtest.Soon(t), endpoint)
		etcdtest.NoError(t, err)
		if status.Version != release {
			t.Errorf("%s is etcd %s, want %s", endpoint, status.Version, release)
		}
	}
	got := harness.Run(t, strings.Join(etcd.Endpoints(), ","), nil, "classroom", "tour")
	got.Want(t, 0, "\n8 lessons, 8 ok\n", "")
	harness.NoLeases(t, client)
	// A countdown may show a second more or less.
	return slices.Compact(strings.Split(runSpecific.ReplaceAllString(got.Stdout, "<...>"), "\n"))
}

// runSpecific is what a lesson prints and what differs from run to run: IDs,
// endpoints, what a member tells about itself, and times. Revisions are not in
// it: on a fresh store they are always the same.
var runSpecific = regexp.MustCompile(`\b[0-9a-f]{16}\b|127\.0\.0\.1:\d+|\bis etcd\d\b` +
	`|etcd \d+\.\d+\.\d+|leader \w+, raft term \d+` +
	`|\d+ renewals|\d+ of \d+ s left|pid-\d+`)

// buildServer builds the official server of that release and returns its path.
// Its module is outside the workspace, which has another version of it.
func buildServer(t *testing.T, release string) string {
	t.Helper()
	dir := t.TempDir()
	source, err := os.ReadFile(filepath.Join("testdata", "server", "main.go"))
	etcdtest.NoError(t, err)
	mod := "module server\n\ngo 1.26.0\n\nrequire go.etcd.io/etcd/server/v3 v" + release + "\n"
	for name, content := range map[string][]byte{"main.go": source, "go.mod": []byte(mod)} {
		etcdtest.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	program := filepath.Join(dir, "etcd")
	// With -mod=mod the build completes go.mod and go.sum.
	build := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", program)
	build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build etcd %s: %v\n%s", release, err, output)
	}
	return program
}
