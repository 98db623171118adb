package tempdir

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// full is how systems say that there is no room, or no more for this user.
var full = []string{"no space left on device", "disk quota exceeded", "not enough space on the disk"}

// IsFull reports whether words, those of an error or of a program, say that there is no
// room.
func IsFull(words string) bool {
	words = strings.ToLower(words)
	return slices.ContainsFunc(full, func(f string) bool { return strings.Contains(words, f) })
}

// NoRoom returns the error for who needs room in a folder that has none. instead says
// what names another folder.
func NoRoom(dir, instead string) error {
	return fmt.Errorf("no room in %s: make some, or name another folder with %s", dir, instead)
}

// Try returns the error of somebody who writes a little into a folder.
func Try(dir string) error {
	file, err := os.CreateTemp(dir, "room-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	_, err = file.Write(make([]byte, 1<<16))
	return err
}
