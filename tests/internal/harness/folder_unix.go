//go:build unix

package harness

import (
	"errors"
	"os"
	"syscall"
)

// lockFolder has the repository's folder for this process alone, among those that ask
// for it. It waits for its turn.
func lockFolder() (unlock func() error, err error) {
	folder, err := os.Open(Root)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		folder.Close()
		return nil, err
	}
	return folder.Close, nil
}
