package transcript

import (
	"testing"

	"example.com/etcd-by-example/tests/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
