// Package tests checks the course from outside: the commands that README.md
// shows, the lessons as programs, and etcd under them, always in processes of
// its own.
package tests

import (
	"testing"

	"example.com/etcd-by-example/tests/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
