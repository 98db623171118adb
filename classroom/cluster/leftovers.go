package cluster

import (
	"fmt"
	"os"
	"path/filepath"
)

// ownerFile is in a temporary folder and locked for as long as its cluster lasts: the
// system frees the lock when the process ends, however that happens.
const ownerFile = "owner"

// own marks the temporary folder as in use, until the file that it returns is closed.
func own(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "own-")
	if err != nil {
		return nil, fmt.Errorf("mark the data folder as in use: %w", err)
	}
	if lock(file) {
		// Under its name the file is never without its lock.
		err = os.Rename(file.Name(), filepath.Join(dir, ownerFile))
	} else {
		err = os.Remove(file.Name())
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("mark the data folder as in use: %w", err)
	}
	return file, nil
}

// removeLeftovers removes the temporary folders of processes that were killed. What
// cannot be removed stays: the next start tries again.
func removeLeftovers() {
	owners, _ := filepath.Glob(filepath.Join(os.TempDir(), temporaryPrefix+"*", ownerFile))
	for _, name := range owners {
		file, err := os.Open(name)
		if err != nil {
			continue
		}
		if lock(file) {
			os.RemoveAll(filepath.Dir(name))
		}
		file.Close()
	}
}
