//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package tempdir

import "os"

// own returns nothing: here nobody can tell whether a folder is in use.
func own(string) (*os.File, error) { return nil, nil }

func abandoned(string) bool { return false }
