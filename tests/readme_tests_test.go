package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/etcd-by-example/classroom/etcdtest"
)

// TestTestsAreListed holds the table of tests/README.md to the tests that there are.
func TestTestsAreListed(t *testing.T) {
	page, err := os.ReadFile("README.md")
	etcdtest.NoError(t, err)
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	var listed, written []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "|") {
			listed = append(listed, regexp.MustCompile(`Test[A-Z]\w+`).FindAllString(line, -1)...)
		}
	}
	for _, pattern := range []string{"*_test.go", "internal/transcript/*_test.go"} {
		files, err := filepath.Glob(pattern)
		etcdtest.NoError(t, err)
		for _, name := range files {
			source, err := os.ReadFile(name)
			etcdtest.NoError(t, err)
			for _, found := range test.FindAllSubmatch(source, -1) {
				written = append(written, string(found[1]))
			}
		}
	}
	slices.Sort(listed)
	slices.Sort(written)
	if !slices.Equal(listed, written) {
		t.Errorf("the table of tests/README.md names\n%s\nand there are\n%s", listed, written)
	}
}
