package shared

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const elsewhere = "set ETCDCTL_ENDPOINTS to an etcd, or start one: go run ./classroom"

// signs tell by the words of an error what is wrong and what to do next: the
// first whose pattern matches. gRPC hands on what the network and TLS say as
// text alone. A server that hangs up is seen as an end, a reset or a broken
// pipe, whichever comes first.
var signs = []struct{ pattern, cause, next string }{
	{"refused", "nothing listens there (connection refused)",
		"start one with go run ./classroom, or docker compose up -d"},
	{"(invalid|unknown) port", "the port is no number from 1 to 65535", elsewhere},
	{"no such file", "there is no such socket file", elsewhere},
	{"no such host|dial tcp: lookup", "the host name is unknown", elsewhere},
	{"missing port", "the port is missing", elsewhere},
	{"missing address", "the address is empty", elsewhere},
	{"HTTP/1.1 header|unexpected HTTP",
		"a web server answers there, not an etcd", elsewhere},
	{"handshake failed: (EOF|read|write)|like a TLS handshake",
		"it speaks no TLS, and TLS was asked for",
		"use http://… in ETCDCTL_ENDPOINTS, and unset ETCDCTL_CACERT"},
	{"preface: (EOF|read|connection)|reset by peer|broken pipe|forcibly closed",
		"it hangs up on a connection without TLS",
		"use https://… in ETCDCTL_ENDPOINTS, and set ETCDCTL_CACERT"},
	{"x509", "its certificate is not trusted",
		"set ETCDCTL_CACERT to the authority that signed it"},
	{"user name is empty", "it wants a user, and none was given",
		"export ETCDCTL_USER=name ETCDCTL_PASSWORD=…"},
	{"authentication failed", "wrong user or password",
		"check ETCDCTL_USER and ETCDCTL_PASSWORD"},
	{"no leader", "it answers, but has no leader: it reaches too few members",
		"start those that are down, or heal the network; it takes a majority"},
	{"class's etcd", "the class's etcd does not answer",
		"wait: the desk, in the terminal of join, tells when it is back"},
	{"deadline exceeded", "no answer in time (ETCDCTL_DIAL_TIMEOUT)", elsewhere},
}

var errUnusable = errors.New("cannot use the etcd")

// explain turns err into the three lines that a learner needs: which etcd, what
// is wrong, what to do next. A cause that it does not know it leaves as it is.
func explain(endpoints []string, err error) error {
	cause, next := err.Error(), elsewhere
	for _, sign := range signs {
		if regexp.MustCompile(sign.pattern).MatchString(cause) {
			cause, next = sign.cause, sign.next
			break
		}
	}
	return fmt.Errorf("%w at %s\n  cause: %s\n  next:  %s",
		errUnusable, strings.Join(endpoints, ", "), cause, next)
}

// hints tell what to do about an error in the middle of a lesson, when etcd was
// there at its beginning.
var hints = []struct{ pattern, next string }{
	{"deadline exceeded|request timed out|code = Unavailable|leader changed",
		"etcd does not answer; a write may have happened all the same"},
	{"no leader",
		"start the members that are down, or heal the network; it takes a majority"},
	{"space exceeded", "compact the history, defragment, disarm the alarm"},
	{"user name is empty|authentication failed",
		"set ETCDCTL_USER and ETCDCTL_PASSWORD"},
}

// hint adds to an error what to do about it, where that is known.
func hint(err error) error {
	for _, hint := range hints {
		if regexp.MustCompile(hint.pattern).MatchString(err.Error()) {
			return fmt.Errorf("%w (%s)", err, hint.next)
		}
	}
	return err
}
