package tempdir

import (
	"os"
	"path/filepath"
	"syscall"
)

// own marks the folder as in use until the file that it returns is closed: nobody else can
// open that.
func own(path string) (*os.File, error) {
	name := filepath.Join(path, ownerFile)
	text, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	const sharedWithNobody = 0
	handle, err := syscall.CreateFile(text, syscall.GENERIC_WRITE, sharedWithNobody, nil,
		syscall.CREATE_NEW, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(handle), name), nil
}

// abandoned reports whether nobody has the owner file any more.
func abandoned(name string) bool {
	file, err := os.Open(name)
	return err == nil && file.Close() == nil
}
