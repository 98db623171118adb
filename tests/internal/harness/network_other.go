//go:build !linux

package harness

import (
	"errors"
	"testing"
)

// NewNetwork returns an error: only Linux has networks for a single test.
func NewNetwork(*testing.T) (Network, error) { return nil, errors.ErrUnsupported }
