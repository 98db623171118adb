package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
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
)

// TestConnect runs a lesson where etcd cannot be used, and where it can be in
// spite of something. The message is what a learner sees: at most four lines.
func TestConnect(t *testing.T) {
	parallel(t)
	plain := startEtcd(t, cluster.Config{}).Endpoints()[0]
	locked := lockedEtcd(t)
	secure, ca := tlsFront(t, plain)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	h2c := httptest.NewUnstartedServer(http.NotFoundHandler())
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	t.Cleanup(h2c.Close)
	silent, minority := silentListener(t), minorityEtcd(t)

	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
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
		{"one of three lives", dead + "," + dead + "," + plain, nil, "", "", bound},
		{"silent first", silent + "," + plain, nil, "", "", bound},
		{"a blank", dead + ", " + plain, nil, "", "", bound},
		{"http scheme", "http://" + plain, nil, "", "", bound},
		{"refused", dead, nil, "nothing listens there", "go run ./classroom", atOnce},
		{"all three refused", dead + "," + dead + "," + dead, nil,
			"nothing listens there", "docker compose up -d", atOnce},
		{"refused, with a user", dead, []string{"ETCDCTL_USER=root:secret"},
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
		{"user wanted", locked, []string{patient},
			"it wants a user", "ETCDCTL_USER", bound},
		{"wrong password", locked, []string{patient, "ETCDCTL_USER=root:wrong"},
			"wrong user or password", "ETCDCTL_PASSWORD", bound},
		{"unknown user", locked, []string{patient, "ETCDCTL_USER=nobody:x"},
			"wrong user or password", "ETCDCTL_PASSWORD", bound},
		{"user with password", locked, []string{patient, "ETCDCTL_USER=root:se:cret"},
			"", "", bound},
		{"user and password", locked,
			[]string{patient, "ETCDCTL_USER=root", "ETCDCTL_PASSWORD=se:cret"}, "", "", bound},
		{"user where none is wanted", plain, []string{"ETCDCTL_USER=root:x"},
			"", "", bound},
		{"no leader", minority, nil, "has no leader", "majority", bound},
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
			if strings.Contains(got.stderr, "{") || strings.Contains(got.stderr, "goroutine") {
				t.Errorf("a log line or a stack trace:\n%s", got.stderr)
			}
			if c.cause == "" {
				if got.status != 0 || got.stderr != "" {
					t.Errorf("status %d, stderr:\n%s", got.status, got.stderr)
				}
				return
			}
			lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
			if got.status != 1 || got.stdout != "" || len(lines) != 3 {
				t.Fatalf("status %d, want 1 and three lines:\n%s%s",
					got.status, got.stdout, got.stderr)
			}
			if !strings.Contains(string(readme), c.cause) {
				t.Errorf("README.md does not explain %q", c.cause)
			}
			for i, part := range []string{c.endpoint, c.cause, c.next} {
				part = strings.Split(part, ",")[0]
				if !strings.Contains(lines[i], part) {
					t.Errorf("line %d does not say %q:\n%s", i+1, part, got.stderr)
				}
			}
		})
	}

	// 01-connect goes its own way to a client, and says the same.
	for name, endpoint := range map[string]string{"refused": dead, "web": web.Listener.Addr().String()} {
		t.Run("01-connect, "+name, func(t *testing.T) {
			got := inTime(t, atOnce, endpoint, nil, "01-connect")
			if got.status != 1 || !strings.Contains(got.stderr, "cause:") {
				t.Errorf("status %d:\n%s", got.status, got.stderr)
			}
		})
	}
}

// TestConfig checks that a variable that cannot be used is named.
func TestConfig(t *testing.T) {
	parallel(t)
	for _, c := range []struct{ variable, words string }{
		{"ETCDCTL_DIAL_TIMEOUT=soon", "ETCDCTL_DIAL_TIMEOUT"},
		{"ETCDCTL_DIAL_TIMEOUT=0s", "above zero"},
		{"ETCDCTL_INSECURE_SKIP_TLS_VERIFY=perhaps", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY"},
		{"ETCDCTL_CACERT=/no/such/file", "/no/such/file"},
		{"ETCDCTL_USER=root", "ETCDCTL_PASSWORD"},
	} {
		t.Run(c.variable, func(t *testing.T) {
			env := []string{"ETCDCTL_ENDPOINTS=" + dead, c.variable}
			got := run(t, "", env, "02-put")
			if got.status != 1 || !strings.Contains(got.stderr, c.words) ||
				strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("status %d, want one line with %q:\n%s",
					got.status, c.words, got.stderr)
			}
		})
	}
}

// TestNamespace checks that two learners with namespaces of their own share an
// etcd without seeing each other, and that nothing is written outside.
func TestNamespace(t *testing.T) {
	parallel(t)
	etcd := startEtcd(t, cluster.Config{})
	client := connect(t, etcd.Endpoints()...)
	for _, lesson := range lessons {
		both := map[string]*running{}
		for _, namespace := range []string{"ann/", "ben/"} {
			both[namespace] = start(t, etcd.Endpoints()[0], []string{"ETCD_NAMESPACE=" + namespace},
				lesson, quick[lesson]...)
		}
		for namespace, p := range both {
			got := p.wait(t)
			if got.status != 0 {
				t.Fatalf("%s in %s: %s", lesson, namespace, got.stderr)
			}
			if lesson == "06-watch" && strings.Count(got.stdout, "DELETE") != 1 {
				t.Errorf("the watch does not see its namespace, or more:\n%s", got.stdout)
			}
			if strings.Contains(got.stdout, namespace) {
				t.Errorf("%s sees its namespace:\n%s", lesson, got.stdout)
			}
		}
	}
	get, err := client.Get(soon(t), "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
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
	lesson string) result {
	t.Helper()
	var got result
	for range 3 {
		if got = run(t, endpoint, env, lesson); got.took <= limit {
			return got
		}
	}
	t.Errorf("it took %v, more than %v", got.took, limit)
	return got
}

// patient is for errors that etcd itself reports: on a busy machine it takes some
// time to check a password.
const patient = "ETCDCTL_DIAL_TIMEOUT=10s"

// dead is an address on which nothing listens: port 1 is reserved, and only
// root could listen there.
const dead = "127.0.0.1:1"

// silentListener returns an address that accepts and never answers.
func silentListener(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

// lockedEtcd returns an etcd with authentication on and root's password
// se:cret, with a colon to show where it is taken apart.
func lockedEtcd(t *testing.T) string {
	t.Helper()
	etcd := startEtcd(t, cluster.Config{})
	client := connect(t, etcd.Endpoints()...)
	if _, err := client.UserAdd(soon(t), "root", "se:cret"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UserGrantRole(soon(t), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AuthEnable(soon(t)); err != nil {
		t.Fatal(err)
	}
	return etcd.Endpoints()[0]
}

// minorityEtcd returns a member of three whose two peers were killed, once it
// knows that it has no leader.
func minorityEtcd(t *testing.T) string {
	t.Helper()
	etcd := startEtcd(t, cluster.Config{Members: 3})
	for _, member := range etcd.Members[1:] {
		if err := member.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	endpoint := etcd.Endpoints()[0]
	client := connect(t, endpoint)
	eventually(t, 20*time.Second, "the member knows that its leader is gone", func() bool {
		status, err := client.Status(soon(t), endpoint)
		return err == nil && status.Leader == 0
	})
	return endpoint
}

// tlsFront returns an address that speaks TLS and hands on to the plain one,
// and the file of the authority that signed its certificate.
func tlsFront(t *testing.T, plain string) (address, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.crt")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"h2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return serveRelay(t, listener, plain).Address, ca
}
