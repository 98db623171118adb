//go:build unix && !linux

package tests

import (
	"errors"
	"testing"
)

// newNetwork returns an error: only Linux has networks for a single test.
func newNetwork(*testing.T) (network, error) { return nil, errors.ErrUnsupported }
