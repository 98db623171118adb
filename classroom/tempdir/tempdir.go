// Package tempdir makes temporary folders that do not stay for ever when the process
// that made them is killed: the next one that makes such a folder removes them.
package tempdir

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// ownerFile is in a folder, and had by its owner for as long as the folder is in use: the
// system takes it back when the process ends, however that happens.
const ownerFile = "owner"

// Dir is a folder in use.
type Dir struct {
	Path string

	owner *os.File // nil where nobody could tell that the folder is in use
}

// Make returns a new folder, whose name begins with the prefix, for temporary files, in
// the folder parent, or in that of the system for such files when parent is empty.
// First it removes those with that prefix that processes which were killed have left;
// what cannot be removed stays for the next call.
func Make(parent, prefix string) (*Dir, error) {
	in := cmp.Or(parent, os.TempDir())
	removeLeftovers(in, prefix)
	path, err := os.MkdirTemp(in, prefix)
	if err != nil && parent == "" && IsFull(err.Error()) {
		return nil, NoRoom(in, "TMPDIR")
	} else if err != nil {
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
	var err error
	if d.owner != nil {
		err = d.owner.Close() // First: Windows removes no open file.
	}
	return errors.Join(err, RemoveAll(d.Path))
}

// Lend has the folder be in use for as long as the command runs, too. It is called before
// the command starts, and does nothing on Windows.
func (d *Dir) Lend(cmd *exec.Cmd) {
	if d.owner != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, d.owner)
	}
}

// Hold marks a folder that is kept as in use, until what it returns is closed or this
// process ends. When another has marked it, the error says what that told of itself.
func Hold(dir, who string) (io.Closer, error) {
	name := filepath.Join(dir, ownerFile)
	file, err := fileutil.TryLockFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		other, _ := os.ReadFile(name) // Windows lets nobody read what is locked.
		return nil, fmt.Errorf("%s is in use by %s", dir, cmp.Or(string(other), "another process"))
	} else if err != nil {
		return nil, fmt.Errorf("mark %s as in use: %w", dir, err)
	}
	_, err = file.WriteString(who)
	if err = errors.Join(err, file.Truncate(int64(len(who)))); err != nil {
		return nil, errors.Join(fmt.Errorf("mark %s as in use: %w", dir, err), file.Close())
	}
	return file, nil
}

func removeLeftovers(parent, prefix string) {
	owners, _ := filepath.Glob(filepath.Join(parent, prefix+"*", ownerFile))
	for _, name := range owners {
		if abandoned(name) {
			RemoveAll(filepath.Dir(name))
		}
	}
}
