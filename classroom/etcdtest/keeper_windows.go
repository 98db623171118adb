package etcdtest

import "example.com/etcd-by-example/classroom/tempdir"

const runVariable = "TESTS_IN"

// keeper does nothing: on Windows only the members end with the tests in every case.
type keeper struct{}

func startKeeper(*tempdir.Dir) (keeper, error) { return keeper{}, nil }

func (keeper) end() error { return nil }

func keeperMain() {}

// AtEnd does nothing: on Windows no test needs it.
func AtEnd(string) error { return nil }
