package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// job has the processes that Start started. Windows ends them when the last handle of the
// job is closed, which is when this program ends, however that happens.
var job = sync.OnceValues(func() (windows.Handle, error) {
	made, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, fmt.Errorf("make a job: %w", err)
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{
			LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
		},
	}
	_, err = windows.SetInformationJobObject(made, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err != nil {
		return 0, fmt.Errorf("make a job: %w", err)
	}
	return made, nil
})

// Start starts cmd as the first of a process group of its own, which a Ctrl-C at the
// console does not reach. Windows ends it, and what it starts, when this program ends.
func Start(cmd *exec.Cmd) error {
	together, err := job()
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	if err := cmd.Start(); err != nil {
		return err
	}
	if failed := cmd.Process.WithHandle(func(handle uintptr) {
		err = windows.AssignProcessToJobObject(together, windows.Handle(handle))
	}); failed != nil {
		err = failed
	}
	// One that has ended by now is in no job.
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return errors.Join(fmt.Errorf("put it into a job: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	return nil
}

// Interrupt asks p, which Start started, to end, as Ctrl-C does. It is an error when this
// program has no console, by which Windows would ask.
func Interrupt(p *os.Process) error {
	if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(p.Pid)); err != nil {
		return fmt.Errorf("press Ctrl-Break at the console: %w", err)
	}
	return nil
}

// InterruptGroup asks p, which Start started, and all processes of its group to end.
// Where Interrupt cannot do that, it ends p at once.
func InterruptGroup(p *os.Process) error {
	if Interrupt(p) == nil {
		return nil
	}
	return p.Kill()
}

// KillGroup ends p at once; what p started goes on until this program ends.
func KillGroup(p *os.Process) error { return p.Kill() }

// errPause wraps errors.ErrUnsupported.
var errPause = fmt.Errorf("Windows cannot pause a process: %w", errors.ErrUnsupported)

// Pause returns an error that wraps errors.ErrUnsupported.
func Pause(*os.Process) error { return errPause }

// Resume returns an error that wraps errors.ErrUnsupported.
func Resume(*os.Process) error { return errPause }
