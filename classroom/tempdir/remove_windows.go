package tempdir

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// removeLimit is how long RemoveAll tries again.
const removeLimit = 2 * time.Second

// RemoveAll is os.RemoveAll, with patience: Windows removes no file that somebody has
// open, such as a scanner for viruses that looks at what has just been written. Where the
// file system knows no removal as os.RemoveAll asks for it, the files are removed one by
// one, in the way that all know.
func RemoveAll(path string) error {
	for limit := time.Now().Add(removeLimit); ; time.Sleep(50 * time.Millisecond) {
		err := os.RemoveAll(path)
		if err == nil || oneByOne(path) {
			return nil
		}
		if time.Now().After(limit) {
			return err
		}
	}
}

// oneByOne reports whether nothing is left of path.
func oneByOne(path string) bool {
	var names []string
	filepath.WalkDir(path, func(name string, _ fs.DirEntry, _ error) error {
		names = append(names, name)
		return nil
	})
	for _, name := range slices.Backward(names) {
		os.Remove(name) // What is left of it keeps its folder from being removed.
	}
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}
