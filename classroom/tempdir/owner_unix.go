//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tempdir

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

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

// abandoned reports whether nobody has the owner file any more.
func abandoned(name string) bool {
	file, err := os.Open(name)
	if err != nil {
		return false
	}
	defer file.Close()
	return lock(file)
}

// lock reports whether it has locked the file, until that is closed.
func lock(file *os.File) bool {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
