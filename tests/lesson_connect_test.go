package tests

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestConnect runs a lesson where etcd cannot be used, and where it can be in
// spite of something. The message is what a learner sees: at most four lines.
func TestConnect(t *testing.T) {
	harness.Parallel(t)
	plain := harness.Etcd(t, cluster.Config{}).Endpoints()[0]
	locked := harness.Locked(t)
	secure, ca := harness.TLS(t, plain)
	mutual, cert, key := harness.TLSFor(t, plain, tls.RequireAnyClientCert)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	h2c := httptest.NewUnstartedServer(http.NotFoundHandler())
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	t.Cleanup(h2c.Close)
	silent := harness.Silent(t)
	minority := withoutLeader(t, func(m []*cluster.Member) error {
		return errors.Join(m[1].Kill(), m[2].Kill())
	})
	cutOff := withoutLeader(t, func(m []*cluster.Member) error { return m[0].Cut() })

	readme, err := os.ReadFile(filepath.Join(harness.Root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}

	const (
		atOnce = 900 * time.Millisecond
		bound  = 2*time.Second + atOnce // the default dial timeout
	)
	for _, c := range []struct {
		name, endpoint string
		env            []string
		cause, next    string // both empty: it works
		within         time.Duration
	}{
		{"works", plain, nil, "", "", bound},
		{"one of three lives", harness.Nobody + "," + harness.Nobody + "," + plain, nil, "", "", bound},
		{"silent first", silent + "," + plain, nil, "", "", bound},
		{"a blank", harness.Nobody + ", " + plain, nil, "", "", bound},
		{"http scheme", "http://" + plain, nil, "", "", bound},
		{"empty variables", plain, []string{"ETCDCTL_DIAL_TIMEOUT=", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY="},
			"", "", bound},
		{"refused", harness.Nobody, nil, "nothing listens there", "go run ./classroom", atOnce},
		{"all three refused", harness.Nobody + "," + harness.Nobody + "," + harness.Nobody, nil,
			"nothing listens there", "docker compose up -d", atOnce},
		{"refused, with a user", harness.Nobody, []string{"ETCDCTL_USER=root:secret"},
			"nothing listens there", "go run ./classroom", atOnce},
		{"silent", silent, nil, "no answer in time", "ETCDCTL_ENDPOINTS", bound},
		{"silent, short timeout", silent, []string{"ETCDCTL_DIAL_TIMEOUT=200ms"},
			"no answer in time", "ETCDCTL_ENDPOINTS", atOnce},
		{"web server", web.Listener.Addr().String(), nil,
			"a web server answers there", "ETCDCTL_ENDPOINTS", atOnce},
		{"web server with HTTP/2", h2c.Listener.Addr().String(), nil,
			"a web server answers there", "ETCDCTL_ENDPOINTS", atOnce},
		{"TLS against plain", "https://" + plain, nil,
			"it speaks no TLS", "http://", atOnce},
		{"TLS by CACERT against plain", plain, []string{"ETCDCTL_CACERT=" + ca},
			"it speaks no TLS", "http://", atOnce},
		{"plain against TLS", secure, nil,
			"hangs up on a connection without TLS", "https://", atOnce},
		{"TLS, unknown authority", "https://" + secure, nil,
			"its certificate is not trusted", "ETCDCTL_CACERT", atOnce},
		{"TLS, CACERT", secure, []string{"ETCDCTL_CACERT=" + ca}, "", "", bound},
		{"TLS, not verified", "https://" + secure,
			[]string{"ETCDCTL_INSECURE_SKIP_TLS_VERIFY=true"}, "", "", bound},
		{"TLS, client certificate", mutual, []string{
			"ETCDCTL_CACERT=" + cert, "ETCDCTL_CERT=" + cert, "ETCDCTL_KEY=" + key}, "", "", bound},
		{"user wanted", locked, []string{harness.Patient},
			"it wants a user", "ETCDCTL_USER", bound},
		{"wrong password", locked, []string{harness.Patient, "ETCDCTL_USER=root:wrong"},
			"wrong user or password", "ETCDCTL_PASSWORD", bound},
		{"unknown user", locked, []string{harness.Patient, "ETCDCTL_USER=nobody:x"},
			"wrong user or password", "ETCDCTL_PASSWORD", bound},
		{"user with password", locked, []string{harness.Patient, "ETCDCTL_USER=root:se:cret"},
			"", "", bound},
		{"user and password", locked,
			[]string{harness.Patient, "ETCDCTL_USER=root", "ETCDCTL_PASSWORD=se:cret"}, "", "", bound},
		{"user where none is wanted", plain, []string{"ETCDCTL_USER=root:x"},
			"", "", bound},
		{"two of three are down", minority, nil, "has no leader: it reaches too few members", "majority", bound},
		{"cut off from two", cutOff, nil, "has no leader: it reaches too few members", "majority", bound},
		{"no port", "127.0.0.1", nil, "the port is missing", "ETCDCTL_ENDPOINTS", atOnce},
		{"port too large", "127.0.0.1:99999", nil,
			"the port is no number from 1 to 65535", "ETCDCTL_ENDPOINTS", atOnce},
		{"port that is a word", "127.0.0.1:etcd", nil,
			"the port is no number from 1 to 65535", "ETCDCTL_ENDPOINTS", bound},
		{"no socket", "unix:///no/such/socket", nil,
			"there is no such socket file", "ETCDCTL_ENDPOINTS", atOnce},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := inTime(t, c.within, c.endpoint, c.env, "02-put")
			if strings.Contains(got.Stderr, "{") || strings.Contains(got.Stderr, "goroutine") {
				t.Errorf("a log line or a stack trace:\n%s", got.Stderr)
			}
			if c.cause == "" {
				if got.Status != 0 || got.Stderr != "" {
					t.Errorf("status %d, stderr:\n%s", got.Status, got.Stderr)
				}
				return
			}
			lines := strings.Split(strings.TrimSpace(got.Stderr), "\n")
			if got.Status != 1 || got.Stdout != "" || len(lines) != 3 {
				t.Fatalf("status %d, want 1 and three lines:\n%s%s",
					got.Status, got.Stdout, got.Stderr)
			}
			if !strings.Contains(string(readme), c.cause) {
				t.Errorf("README.md does not explain %q", c.cause)
			}
			for i, part := range []string{c.endpoint, c.cause, c.next} {
				part = strings.Split(part, ",")[0]
				if !strings.Contains(lines[i], part) {
					t.Errorf("line %d does not say %q:\n%s", i+1, part, got.Stderr)
				}
			}
		})
	}

	// 01-connect goes its own way to a client, and says the same.
	for _, c := range []struct {
		name, endpoint string
		env            []string
		stdout, stderr string // with an empty stderr, it works
		within         time.Duration
	}{
		{"refused", harness.Nobody, nil, "", "cause:", atOnce},
		{"web", web.Listener.Addr().String(), nil, "", "cause:", atOnce},
		{"silent", silent, nil, "", "cause:", bound},
		{"user wanted", locked, []string{harness.Patient}, "", "(set ETCDCTL_USER", bound},
		{"one of two lives", harness.Nobody + "," + plain, nil, harness.Nobody + " does not answer", "", 2 * bound},
		{"one of two answers", silent + "," + plain, nil, silent + " does not answer", "", 2 * bound},
	} {
		t.Run("01-connect, "+c.name, func(t *testing.T) {
			got := inTime(t, c.within, c.endpoint, c.env, "01-connect")
			if (got.Status == 0) != (c.stderr == "") || !strings.Contains(got.Stdout, c.stdout) ||
				!strings.Contains(got.Stderr, c.stderr) {
				t.Errorf("status %d:\n%s%s", got.Status, got.Stdout, got.Stderr)
			}
		})
	}
}

// TestConfig checks that a variable that cannot be used is named.
func TestConfig(t *testing.T) {
	harness.Parallel(t)
	for _, c := range []struct{ variable, words string }{
		{"ETCDCTL_DIAL_TIMEOUT=soon", "ETCDCTL_DIAL_TIMEOUT"},
		{"ETCDCTL_DIAL_TIMEOUT=0s", "above zero"},
		{"ETCDCTL_INSECURE_SKIP_TLS_VERIFY=perhaps", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY"},
		{"ETCDCTL_CACERT=/no/such/file", "/no/such/file"},
		{"ETCDCTL_USER=root", "ETCDCTL_PASSWORD"},
	} {
		t.Run(c.variable, func(t *testing.T) {
			env := []string{"ETCDCTL_ENDPOINTS=" + harness.Nobody, c.variable}
			got := harness.Run(t, "", env, "02-put")
			if got.Status != 1 || !strings.Contains(got.Stderr, c.words) ||
				strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("status %d, want one line with %q:\n%s",
					got.Status, c.words, got.Stderr)
			}
		})
	}
}

// TestNamespace checks that two learners with namespaces of their own share an
// etcd without seeing each other, and that nothing is written outside.
func TestNamespace(t *testing.T) {
	harness.Parallel(t)
	etcd := harness.Etcd(t, cluster.Config{})
	client := harness.Connect(t, etcd.Endpoints()...)
	for _, lesson := range harness.Lessons {
		both := map[string]*harness.Running{}
		for _, namespace := range []string{"ann/", "ben/"} {
			both[namespace] = harness.Start(t, etcd.Endpoints()[0], []string{"ETCD_NAMESPACE=" + namespace},
				lesson, quick[lesson]...)
		}
		for namespace, p := range both {
			got := p.Wait(t)
			if got.Status != 0 {
				t.Fatalf("%s in %s: %s", lesson, namespace, got.Stderr)
			}
			if lesson == "06-watch" && strings.Count(got.Stdout, "DELETE") != 1 {
				t.Errorf("the watch does not see its namespace, or more:\n%s", got.Stdout)
			}
			if strings.Contains(got.Stdout, namespace) {
				t.Errorf("%s sees its namespace:\n%s", lesson, got.Stdout)
			}
		}
	}
	get, err := client.Get(harness.Soon(t), "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, kv := range get.Kvs {
		namespace, _, _ := strings.Cut(string(kv.Key), "/")
		counts[namespace]++
	}
	if len(counts) != 2 || counts["ann"] == 0 || counts["ann"] != counts["ben"] {
		t.Errorf("keys by namespace: %v", counts)
	}
}

// inTime runs a lesson and fails the test when it takes longer than the limit.
// The machine may be busy, so the lesson has three tries: one that waits for
// something that does not come is too slow in each.
func inTime(t *testing.T, limit time.Duration, endpoint string, env []string,
	lesson string) harness.Result {
	t.Helper()
	var got harness.Result
	for range 3 {
		if got = harness.Run(t, endpoint, env, lesson); got.Took <= limit {
			return got
		}
	}
	t.Errorf("it took %v, more than %v", got.Took, limit)
	return got
}

// withoutLeader returns the first member of three, once it knows that what befell
// the members took it its leader.
func withoutLeader(t *testing.T, befall func([]*cluster.Member) error) string {
	t.Helper()
	etcd := harness.Etcd(t, cluster.Config{Members: 3})
	harness.NoError(t, befall(etcd.Members))
	harness.AwaitNoLeader(t, etcd.Members[0])
	return etcd.Endpoints()[0]
}
