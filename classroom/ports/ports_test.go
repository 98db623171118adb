package ports

import (
	"net"
	"testing"
)

func TestReserve(t *testing.T) {
	r, err := Reserve(0, 6)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range r.Numbers {
		if mark, err := reserve(number); err == nil {
			mark.Close()
			t.Errorf("%d is reserved twice", number)
		}
		if _, err := Reserve(number, 1); err != nil {
			t.Errorf("its owner cannot listen: %v", err)
		}
	}
	listener, err := net.Listen("tcp", address(r.Numbers[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := r.Release(); err != nil {
		t.Fatal(err)
	}
	// Nobody has its mark now, but somebody listens at the first.
	for i, number := range r.Numbers {
		mark, err := reserve(number)
		if err == nil {
			mark.Close()
		}
		if (err == nil) == (i == 0) {
			t.Errorf("reserve %d: %v", number, err)
		}
	}
}
