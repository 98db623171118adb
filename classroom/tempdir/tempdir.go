// Package tempdir makes temporary folders that do not stay for ever when the process
// that made them is killed: the next one that makes such a folder removes them.
package tempdir

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ownerFile is in a folder and locked for as long as it is in use: the system frees the
// lock when the process ends, however that happens.
const ownerFile = "owner"

// Dir is a folder in use.
type Dir struct {
	Path string

	owner *os.File // nil where nobody could tell that the folder is in use
}

// Make returns a new folder, whose name begins with the prefix, for temporary files.
// First it removes those with that prefix that processes which were killed have left;
// what cannot be removed stays for the next call.
func Make(prefix string) (*Dir, error) {
	removeLeftovers(prefix)
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	owner, err := own(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mark %s as in use: %w", path, err), RemoveAll(path))
	}
	return &Dir{path, owner}, nil
}

// Remove removes the folder with all that is in it.
func (d *Dir) Remove() error {
	err := RemoveAll(d.Path)
	if d.owner != nil {
		err = errors.Join(err, d.owner.Close())
	}
	return err
}

// Lend has the folder be in use for as long as the command runs, too. It is called before
// the command starts, and does nothing on Windows.
func (d *Dir) Lend(cmd *exec.Cmd) {
	if d.owner != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, d.owner)
	}
}

// own marks the folder as in use until the file that it returns is closed.
func own(path string) (*os.File, error) {
	file, err := os.CreateTemp(path, "own-")
	if err != nil {
		return nil, err
	}
	if !lock(file) {
		return nil, errors.Join(file.Close(), os.Remove(file.Name()))
	}
	// Under its name the file is never without its lock.
	if err := os.Rename(file.Name(), filepath.Join(path, ownerFile)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func removeLeftovers(prefix string) {
	owners, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*", ownerFile))
	for _, name := range owners {
		file, err := os.Open(name)
		if err != nil {
			continue
		}
		if lock(file) {
			RemoveAll(filepath.Dir(name))
		}
		file.Close()
	}
}
