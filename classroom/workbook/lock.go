package workbook

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// lockLimit is how long one waits for others, who write a small file.
const lockLimit = 20 * time.Second

// lock keeps other processes out until unlock is called, or this one ends.
func lock(name string) (unlock func(), err error) {
	type locked struct {
		file *fileutil.LockedFile
		err  error
	}
	held, gaveUp := make(chan locked), make(chan struct{})
	go func() {
		file, err := fileutil.LockFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
		select {
		case held <- locked{file, err}:
		case <-gaveUp:
			if err == nil {
				file.Close()
			}
		}
	}()
	select {
	case l := <-held:
		switch {
		case l.err == nil:
			return func() { l.file.Close() }, nil
		case errors.Is(l.err, errors.ErrUnsupported), errors.Is(l.err, syscall.ENOLCK):
			return func() {}, nil // Such disks are rare, and so are two processes.
		}
		return nil, fmt.Errorf("lock %s: %w", name, l.err)
	case <-time.After(lockLimit):
		close(gaveUp)
		return nil, fmt.Errorf("another program has held %s for %v: end it, and try again", name, lockLimit)
	}
}
