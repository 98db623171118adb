package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/etcd-by-example/tests/internal/harness"
)

// TestTestsAreListed holds the table of tests/README.md to the tests that there are.
func TestTestsAreListed(t *testing.T) {
	page, err := os.ReadFile("README.md")
	harness.NoError(t, err)
	var listed, written []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "|") {
			listed = append(listed, regexp.MustCompile(`Test[A-Z]\w+`).FindAllString(line, -1)...)
		}
	}
	for _, pattern := range []string{"*_test.go", "internal/transcript/*_test.go"} {
		files, err := filepath.Glob(pattern)
		harness.NoError(t, err)
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			harness.NoError(t, err)
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
					written = append(written, f.Name.Name)
				}
			}
		}
	}
	slices.Sort(listed)
	slices.Sort(written)
	if !slices.Equal(listed, written) {
		t.Errorf("the table of tests/README.md names\n%s\nand there are\n%s", listed, written)
	}
}
