package tests

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/tests/internal/harness"
)

// TestConnect runs a lesson where etcd cannot be used, and where it can be in
// spite of something. The message is what a learner sees: at most four lines.
func TestConnect(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 2)
	plain := etcdtest.Etcd(t, cluster.Config{}).Endpoints()[0]
	locked := harness.Locked(t)
	secure, ca := harness.TLS(t, plain)
	mutual, cert, key := harness.TLSFor(t, plain, tls.RequireAnyClientCert)
	tlsWith := func(change func(*x509.Certificate, *tls.Config)) (address, ca string) {
		address, ca, _ = harness.TLSWith(t, plain, change)
		return address, "ETCDCTL_CACERT=" + ca
	}
	expired, expiredCA := tlsWith(func(c *x509.Certificate, _ *tls.Config) { c.NotAfter = time.Now().Add(-time.Minute) })
	early, earlyCA := tlsWith(func(c *x509.Certificate, _ *tls.Config) { c.NotBefore = time.Now().Add(time.Minute) })
	elsewhere, elsewhereCA := tlsWith(func(c *x509.Certificate, _ *tls.Config) {
		c.IPAddresses, c.DNSNames = nil, []string{"etcd.example"}
	})
	wanting, wantingCA := tlsWith(func(_ *x509.Certificate, s *tls.Config) {
		s.ClientAuth, s.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
	})
	strict, strictCA := tlsWith(func(_ *x509.Certificate, s *tls.Config) {
		s.ClientAuth, s.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	})
	noALPN, noALPNCA := tlsWith(func(_ *x509.Certificate, s *tls.Config) { s.NextProtos = nil })
	http1, http1CA := tlsWith(func(_ *x509.Certificate, s *tls.Config) { s.NextProtos = []string{"http/1.1"} })
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	startHTTP2 := func(handler http.HandlerFunc) *httptest.Server {
		server := httptest.NewUnstartedServer(handler)
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		t.Cleanup(server.Close)
		return server
	}
	h2c := startHTTP2(http.NotFound)
	// gRPC itself gives up a connection on which nothing comes, but not a call.
	hanging := startHTTP2(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	silent := harness.Silent(t)
	leads := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		etcd, err := net.Dial("tcp", plain)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer etcd.Close()
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(client, etcd)
		io.Copy(etcd, client)
	}))
	t.Cleanup(leads.Close)

	for _, c := range []struct {
		name, endpoint string
		env            []string
		cause, next    string // both empty: it works
	}{
		{"works", plain, nil, "", ""},
		{"one of three lives", harness.Nobody + "," + harness.Nobody + "," + plain, nil, "", ""},
		{"silent first", silent + "," + plain, nil, "", ""},
		{"a blank", harness.Nobody + ", " + plain, nil, "", ""},
		{"http scheme", "http://" + plain, nil, "", ""},
		{"empty variables", plain, []string{"ETCDCTL_DIAL_TIMEOUT=", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY="}, "", ""},
		{"refused", harness.Nobody, nil, "nothing listens there", "go run ./classroom"},
		{"all three refused", harness.Nobody + "," + harness.Nobody + "," + harness.Nobody, nil,
			"nothing listens there", "docker compose up -d"},
		{"refused, with a user", harness.Nobody, []string{"ETCDCTL_USER=root:secret"},
			"nothing listens there", "go run ./classroom"},
		{"silent", silent, []string{shortTimeout}, "no answer in time", "ETCDCTL_ENDPOINTS"},
		{"web server", web.Listener.Addr().String(), nil, "a web server answers there", "ETCDCTL_ENDPOINTS"},
		{"web server with HTTP/2", h2c.Listener.Addr().String(), nil, "a web server answers there", "ETCDCTL_ENDPOINTS"},
		{"TLS against plain", "https://" + plain, nil, "it speaks no TLS", "http://"},
		{"TLS by CACERT against plain", plain, []string{"ETCDCTL_CACERT=" + ca}, "it speaks no TLS", "http://"},
		{"plain against TLS", secure, nil, "hangs up on a connection without TLS", "https://"},
		{"TLS, unknown authority", "https://" + secure, nil, "its certificate is not trusted", "ETCDCTL_CACERT"},
		{"TLS, CACERT", secure, []string{"ETCDCTL_CACERT=" + ca}, "", ""},
		{"TLS, not verified", "https://" + secure, []string{"ETCDCTL_INSECURE_SKIP_TLS_VERIFY=true"}, "", ""},
		{"TLS, expired", "https://" + expired, []string{expiredCA}, "its certificate has expired", "clock"},
		{"TLS, not valid yet", early, []string{earlyCA}, "its certificate is not valid yet", "clock"},
		{"TLS, another host", elsewhere, []string{elsewhereCA}, "its certificate is for another host", "ETCDCTL_ENDPOINTS"},
		{"TLS, no client certificate", mutual, []string{"ETCDCTL_CACERT=" + cert}, "it wants a client certificate", "ETCDCTL_CERT"},
		{"TLS 1.2, no client certificate", wanting, []string{wantingCA}, "it wants a client certificate", "ETCDCTL_CERT"},
		{"TLS, another client certificate", strict, []string{strictCA, "ETCDCTL_CERT=" + cert, "ETCDCTL_KEY=" + key},
			"it refuses the client certificate", "ETCDCTL_CERT"},
		{"TLS without ALPN", noALPN, []string{noALPNCA}, "its TLS offers no HTTP/2", "ETCDCTL_ENDPOINTS"},
		{"TLS with HTTP/1.1", http1, []string{http1CA}, "its TLS offers no HTTP/2", "ETCDCTL_ENDPOINTS"},
		{"a proxy that leads there", "etcd.example:2379", []string{"HTTPS_PROXY=" + leads.URL}, "", ""},
		{"a proxy", "etcd.example:2379", []string{"HTTPS_PROXY=http://ann:secret@" + web.Listener.Addr().String()},
			"it was not reached through the proxy", "NO_PROXY=etcd.example"},
		{"a proxy that is not there", "http://etcd.example:2379", []string{"https_proxy=" + harness.Nobody},
			"it was not reached through the proxy", "NO_PROXY=etcd.example"},
		{"TLS, client certificate", mutual, []string{
			"ETCDCTL_CACERT=" + cert, "ETCDCTL_CERT=" + cert, "ETCDCTL_KEY=" + key}, "", ""},
		{"user wanted", locked, nil, "it wants a user", "ETCDCTL_USER"},
		{"wrong password", locked, []string{"ETCDCTL_USER=root:wrong"}, "wrong user or password", "ETCDCTL_PASSWORD"},
		{"unknown user", locked, []string{"ETCDCTL_USER=nobody:x"}, "wrong user or password", "ETCDCTL_PASSWORD"},
		{"user with password", locked, []string{"ETCDCTL_USER=root:se:cret"}, "", ""},
		{"user and password", locked, []string{"ETCDCTL_USER=root", "ETCDCTL_PASSWORD=se:cret"}, "", ""},
		{"user where none is wanted", plain, []string{"ETCDCTL_USER=root:x"}, "", ""},
		{"no port", "127.0.0.1", nil, "the port is missing", "ETCDCTL_ENDPOINTS"},
		{"IPv6 without brackets", "::1:2379", nil, "an IPv6 address needs brackets", "[::1]:2379"},
		{"port too large", "127.0.0.1:99999", nil, "the port is no number from 1 to 65535", "ETCDCTL_ENDPOINTS"},
		{"port that is a word", "127.0.0.1:etcd", nil, "the port is no number from 1 to 65535", "ETCDCTL_ENDPOINTS"},
		{"no socket", "unix:///no/such/socket", nil, "there is no such socket file", "ETCDCTL_ENDPOINTS"},
	} {
		t.Run(c.name, func(t *testing.T) { connects(t, c.endpoint, c.env, c.cause, c.next) })
	}

	// 01-connect goes its own way to a client, and says the same.
	for _, c := range []struct {
		name, endpoint, timeout string
		status                  int
		stdout, stderr          string
	}{
		{"refused", harness.Nobody, harness.Patient, 1, "", "cause:"},
		{"web", web.Listener.Addr().String(), harness.Patient, 1, "", "cause:"},
		{"hanging", hanging.Listener.Addr().String(), shortTimeout, 1, "", "cause:"},
		{"user wanted", locked, harness.Patient, 1, "", "(set ETCDCTL_USER"},
		{"one of two lives", harness.Nobody + "," + plain, harness.Patient, 0, harness.Nobody + " does not answer", ""},
		{"one of two answers", silent + "," + plain, shortTimeout, 0, silent + " does not answer", ""},
	} {
		t.Run("01-connect, "+c.name, func(t *testing.T) {
			got := inTime(t, c.endpoint, []string{c.timeout}, "01-connect")
			got.Want(t, c.status, c.stdout, c.stderr)
		})
	}
}

// TestConnectWithoutLeader runs a lesson on a member that reaches too few others.
func TestConnectWithoutLeader(t *testing.T) {
	etcdtest.NeedsLong(t, "three members")
	t.Parallel()
	for name, befall := range map[string]func(m []*cluster.Member) error{
		"two of three are down": func(m []*cluster.Member) error { return errors.Join(m[1].Kill(), m[2].Kill()) },
		"cut off from two":      func(m []*cluster.Member) error { return m[0].Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Etcd(t, cluster.Config{Members: 3})
			etcdtest.NoError(t, befall(etcd.Members))
			harness.AwaitNoLeader(t, etcd.Members[0])
			connects(t, etcd.Endpoints()[0], []string{shortTimeout}, "has no leader: it reaches too few members", "majority")
		})
	}
}

// shortTimeout is for who waits until it is over, and long enough for a machine that is
// busy. Ten times as much is more than the limit of inTime.
const shortTimeout = "ETCDCTL_DIAL_TIMEOUT=5s"

// connects runs a lesson that must work, when no cause is given, or else name the cause,
// and what to do next.
func connects(t *testing.T, endpoint string, env []string, cause, next string) {
	t.Helper()
	got := inTime(t, endpoint, append([]string{harness.Patient}, env...), "02-put")
	if strings.Contains(got.Stderr, "secret") {
		t.Errorf("it tells a password:\n%s", got.Stderr)
	}
	if strings.Contains(got.Stderr, "{") || strings.Contains(got.Stderr, "goroutine") {
		t.Errorf("a log line or a stack trace:\n%s", got.Stderr)
	}
	if cause == "" {
		got.Want(t, 0, "", "")
		return
	}
	lines := strings.Split(strings.TrimSpace(got.Stderr), "\n")
	if got.Status != 1 || got.Stdout != "" || len(lines) != 3 {
		t.Fatalf("status %d, want 1 and three lines:\n%s%s", got.Status, got.Stdout, got.Stderr)
	}
	readme, err := os.ReadFile(filepath.Join(harness.Root, "README.md"))
	etcdtest.NoError(t, err)
	if !strings.Contains(string(readme), cause) {
		t.Errorf("README.md does not explain %q", cause)
	}
	for i, part := range []string{endpoint, cause, next} {
		part = strings.Split(part, ",")[0]
		if !strings.Contains(lines[i], part) {
			t.Errorf("line %d does not say %q:\n%s", i+1, part, got.Stderr)
		}
	}
}

// TestConfig checks that a variable that cannot be used is named.
func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ variable, words string }{
		{"ETCDCTL_DIAL_TIMEOUT=soon", "ETCDCTL_DIAL_TIMEOUT"},
		{"ETCDCTL_DIAL_TIMEOUT=0s", "above zero"},
		{"ETCDCTL_INSECURE_SKIP_TLS_VERIFY=perhaps", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY"},
		{"ETCDCTL_CACERT=/no/such/file", "/no/such/file"},
		{"ETCDCTL_USER=root", "ETCDCTL_PASSWORD"},
		{`ETCDCTL_ENDPOINTS="127.0.0.1:2379"`, "ETCDCTL_ENDPOINTS has quotes"},
		{"ETCDCTL_CACERT='/no/such/file'", "ETCDCTL_CACERT has quotes"},
		{`ETCDCTL_DIAL_TIMEOUT="2s"`, "ETCDCTL_DIAL_TIMEOUT has quotes"},
	} {
		t.Run(c.variable, func(t *testing.T) {
			env := []string{"ETCDCTL_ENDPOINTS=" + harness.Nobody, c.variable}
			got := harness.Run(t, "", env, "02-put")
			got.Want(t, 1, "", c.words)
			oneLine(t, got.Stderr)
		})
	}
}

// oneLine fails the test when text is something else than a line.
func oneLine(t *testing.T, text string) {
	t.Helper()
	if strings.Count(text, "\n") != 1 {
		t.Errorf("want one line:\n%s", text)
	}
}

// TestNamespace checks that two learners with namespaces of their own share an
// etcd without seeing each other, and that nothing is written outside.
func TestNamespace(t *testing.T) {
	etcdtest.NeedsLong(t, "all lessons, twice")
	t.Parallel()
	etcd := etcdtest.Etcd(t, cluster.Config{})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	for _, lesson := range harness.Lessons {
		both := map[string]*harness.Running{}
		for _, namespace := range []string{"ann/", "ben/"} {
			both[namespace] = harness.Start(t, etcd.Endpoints()[0], []string{"ETCD_NAMESPACE=" + namespace},
				lesson, quick[lesson]...)
		}
		for namespace, p := range both {
			got := p.Wait(t)
			got.Want(t, 0, "", "")
			if lesson == "06-watch" && strings.Count(got.Stdout, "DELETE") != 1 {
				t.Errorf("the watch does not see its namespace, or more:\n%s", got.Stdout)
			}
			if strings.Contains(got.Stdout, namespace) {
				t.Errorf("%s sees its namespace:\n%s", lesson, got.Stdout)
			}
		}
	}
	get, err := client.Get(etcdtest.Soon(t), "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	etcdtest.NoError(t, err)
	counts := map[string]int{}
	for _, kv := range get.Kvs {
		namespace, _, _ := strings.Cut(string(kv.Key), "/")
		counts[namespace]++
	}
	if len(counts) != 2 || counts["ann"] == 0 || counts["ann"] != counts["ben"] {
		t.Errorf("keys by namespace: %v", counts)
	}
}

// inTime runs a lesson, and fails the test when it has not ended in good time before the
// timeout of harness.Patient: it waited for something that does not come.
func inTime(t *testing.T, endpoint string, env []string, lesson string) harness.Result {
	t.Helper()
	return inTimeOf(t, harness.Start(t, endpoint, env, lesson))
}

// inTimeOf is inTime for a lesson that was started before.
func inTimeOf(t *testing.T, p *harness.Running) harness.Result {
	t.Helper()
	got := p.Wait(t)
	if got.Took > 45*time.Second {
		t.Errorf("it took %v", got.Took)
	}
	return got
}
