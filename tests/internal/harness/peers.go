package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/etcdtest"
)

// Patient gives etcd the time that it needs on a busy machine, to check a password or to
// answer at all. What ends before that did not wait for its end.
const Patient = "ETCDCTL_DIAL_TIMEOUT=1m"

// Nobody is an address on which nothing listens: port 1 is reserved, and only
// root could listen there.
const Nobody = "127.0.0.1:1"

// Silent returns an address that accepts and never answers.
func Silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	etcdtest.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

// Locked returns an etcd with authentication on and root's password
// se:cret, with a colon to show where it is taken apart. It has further arguments.
func Locked(t *testing.T, args ...string) string {
	t.Helper()
	etcd := etcdtest.Etcd(t, cluster.Config{Args: args})
	client := etcdtest.Connect(t, etcd.Endpoints()...)
	EnableAuth(t, client, "se:cret")
	return etcd.Endpoints()[0]
}

// EnableAuth turns authentication on, with a password for root.
func EnableAuth(t *testing.T, client *clientv3.Client, password string) {
	t.Helper()
	_, err := client.UserAdd(etcdtest.Soon(t), "root", password)
	etcdtest.NoError(t, err)
	_, err = client.UserGrantRole(etcdtest.Soon(t), "root", "root")
	etcdtest.NoError(t, err)
	_, err = client.AuthEnable(etcdtest.Soon(t))
	etcdtest.NoError(t, err)
}

// TLS returns an address that speaks TLS and hands on to the plain one,
// and the file of the authority that signed its certificate.
func TLS(t *testing.T, plain string) (address, ca string) {
	t.Helper()
	address, ca, _ = TLSFor(t, plain, tls.NoClientCert)
	return address, ca
}

// TLSFor is TLS for clients that show a certificate, or none. It also
// returns the file of the certificate's key: a client may show the same one.
func TLSFor(t *testing.T, plain string, clients tls.ClientAuthType) (address, cert, key string) {
	t.Helper()
	return TLSWith(t, plain, func(_ *x509.Certificate, config *tls.Config) { config.ClientAuth = clients })
}

// TLSWith is TLSFor with a certificate and a server that are changed before they are made.
func TLSWith(t *testing.T, plain string, change func(*x509.Certificate, *tls.Config)) (address, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	etcdtest.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	config := &tls.Config{NextProtos: []string{"h2"}}
	change(template, config)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	etcdtest.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	etcdtest.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der},
		key:  {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		etcdtest.NoError(t, os.WriteFile(name, pem.EncodeToMemory(block), 0o600))
	}
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	etcdtest.NoError(t, err)
	return serveRelay(t, listener, Machine, plain).Address, cert, key
}
