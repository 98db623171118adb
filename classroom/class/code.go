package class

import (
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Code is what a teacher writes on the whiteboard: where the class is, how to know
// its teacher, and a secret that lets a learner in. Who reads it can join, and cannot
// pose as the teacher.
type Code struct {
	// Address is where the class lets learners in, as host:port.
	Address string

	print  fingerprint
	secret secret
}

// A fingerprint is 60 bits of the SHA-256 of the authority's public key; a secret has
// 20 bits. Both lie in the five-bit digits in which they are written.
type (
	fingerprint [12]byte
	secret      [4]byte
)

// Fingerprint returns what tells one class from another.
func (c Code) Fingerprint() string { return string(c.print[:]) }

// digits are Crockford's: without I, L, O and U, which are read as others.
var (
	digits   = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)
	readable = strings.NewReplacer("-", "", "O", "0", "I", "1", "L", "1")
)

var errCode = errors.New("a join code looks like 192.168.1.5:2378/D417-4F2T-7C0C-57V8")

// ParseCode reads what String has written, in capitals or not. Without a port it is
// that of the classroom.
func ParseCode(text string) (Code, error) {
	address, written, found := strings.Cut(text, "/")
	written = readable.Replace(strings.ToUpper(written))
	if _, err := digits.DecodeString(written); !found || err != nil || len(written) != 16 {
		return Code{}, fmt.Errorf("%q is no join code: %w", text, errCode)
	}
	address, err := withPort(address)
	if err != nil {
		return Code{}, err
	}
	code := Code{Address: address}
	copy(code.print[:], written)
	copy(code.secret[:], written[len(code.print):])
	return code, nil
}

// withPort returns an address with the port at which a class lets learners in, unless
// it has one.
func withPort(address string) (string, error) {
	if host, port, err := net.SplitHostPort(address); err == nil && host != "" && port != "" {
		return address, nil
	}
	if host := strings.Trim(address, "[]"); host != "" && (net.ParseIP(host) != nil || !strings.Contains(host, ":")) {
		return net.JoinHostPort(host, JoinPort), nil
	}
	return "", fmt.Errorf("%q is no address: %w", address, errCode)
}

// String returns the code as it is typed.
func (c Code) String() string {
	all := string(c.print[:]) + string(c.secret[:])
	return c.Address + "/" + strings.Join([]string{all[:4], all[4:8], all[8:12], all[12:]}, "-")
}
