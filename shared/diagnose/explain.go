// Package diagnose finds out why an etcd cannot be used, and says it to a learner.
package diagnose

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnusable is wrapped by what Explain returns.
var ErrUnusable = errors.New("cannot use the etcd")

// cause is an error with what to do next.
type cause struct{ what, next string }

func (c cause) Error() string { return c.what }

const elsewhere = "set ETCDCTL_ENDPOINTS to an etcd, or start one: go run ./classroom"

var (
	noTLS = cause{"it speaks no TLS, and TLS was asked for",
		"use http://… in ETCDCTL_ENDPOINTS, and unset ETCDCTL_CACERT"}
	noHTTP2 = cause{"its TLS offers no HTTP/2 (ALPN), which etcd speaks", elsewhere}
)

// signs tell by the words of an error what is wrong and what to do next: the
// first of which one is in it. gRPC hands on what the network says as text alone.
// A server that hangs up is seen as an end, a reset or a broken pipe, whichever
// comes first.
var signs = []struct {
	words []string
	cause
}{
	{[]string{"refused"}, cause{"nothing listens there (connection refused)",
		"start one with go run ./classroom, or docker compose up -d"}},
	{[]string{"invalid port", "unknown port"},
		cause{"the port is no number from 1 to 65535", elsewhere}},
	{[]string{"no such file"}, cause{"there is no such socket file", elsewhere}},
	{[]string{"no such host", "dial tcp: lookup"},
		cause{"the host name is unknown", elsewhere}},
	{[]string{"too many colons"}, cause{"an IPv6 address needs brackets",
		"write it like [::1]:2379 in ETCDCTL_ENDPOINTS"}},
	{[]string{"missing port"}, cause{"the port is missing", elsewhere}},
	{[]string{"missing address"}, cause{"the address is empty", elsewhere}},
	{[]string{"HTTP/1.1 header", "unexpected HTTP"},
		cause{"a web server answers there, not an etcd", elsewhere}},
	{[]string{"preface: EOF", "preface: read", "preface: connection",
		"reset by peer", "broken pipe", "forcibly closed"},
		cause{"it hangs up on a connection without TLS",
			"use https://… in ETCDCTL_ENDPOINTS, and set ETCDCTL_CACERT"}},
	{[]string{"user name is empty"}, cause{"it wants a user, and none was given",
		"export ETCDCTL_USER=name ETCDCTL_PASSWORD=…"}},
	{[]string{"authentication failed"}, cause{"wrong user or password",
		"check ETCDCTL_USER and ETCDCTL_PASSWORD"}},
	{[]string{"no leader"},
		cause{"it answers, but has no leader: it reaches too few members",
			"start those that are down, or heal the network; it takes a majority"}},
	{[]string{"class's etcd"}, cause{"the class's etcd does not answer",
		"wait: the desk, in the terminal of join, tells when it is back"}},
	{[]string{"deadline exceeded"},
		cause{"no answer in time (ETCDCTL_DIAL_TIMEOUT)", elsewhere}},
}

// Explain turns err into the three lines that a learner needs: which etcd, what
// is wrong, what to do next. A cause that it does not know it leaves as it is.
func Explain(endpoints []string, err error) error {
	found, known := errors.AsType[cause](err)
	for _, sign := range signs {
		if !known && contains(err, sign.words) {
			found, known = sign.cause, true
		}
	}
	if !known {
		found = cause{err.Error(), elsewhere}
	}
	return fmt.Errorf("%w at %s\n  cause: %s\n  next:  %s",
		ErrUnusable, strings.Join(endpoints, ", "), found.what, found.next)
}

// hints tell what to do about an error in the middle of a lesson, when etcd was
// there at its beginning.
var hints = []struct {
	words []string
	next  string
}{
	{[]string{"deadline exceeded", "request timed out", "code = Unavailable",
		"leader changed"},
		"etcd does not answer; a write may have happened all the same"},
	{[]string{"no leader"},
		"start the members that are down, or heal the network; it takes a majority"},
	{[]string{"space exceeded"}, "compact the history, defragment, disarm the alarm"},
	{[]string{"user name is empty", "authentication failed"},
		"set ETCDCTL_USER and ETCDCTL_PASSWORD"},
}

// Hint adds to an error what to do about it, where that is known.
func Hint(err error) error {
	for _, hint := range hints {
		if contains(err, hint.words) {
			return fmt.Errorf("%w (%s)", err, hint.next)
		}
	}
	return err
}

func contains(err error, words []string) bool {
	for _, part := range words {
		if strings.Contains(err.Error(), part) {
			return true
		}
	}
	return false
}
