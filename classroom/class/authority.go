package class

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"example.com/etcd-by-example/classroom/cluster"
)

const (
	// serverName is the one name in the certificate of a class. Addresses are not in
	// it: those of a laptop change.
	serverName = "class.etcd-by-example"

	rootUser = "root"

	// A class lasts for a term at most; the authority outlives it.
	learnerLife   = 180 * 24 * time.Hour
	authorityLife = 10 * 365 * 24 * time.Hour

	// skew is how far clocks of a class may be apart.
	skew = 24 * time.Hour
)

// Authority signs who is who in a class. Its key is what learners know the class by.
type Authority struct {
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	secret secret
}

// authorityFile holds the key, the certificate and the secret of a class.
const authorityFile = "class.pem"

// Blocks of authorityFile.
const (
	keyBlock    = "PRIVATE KEY"
	certBlock   = "CERTIFICATE"
	secretBlock = "JOIN SECRET"
)

// Kept reports whether a folder has the data of a class.
func Kept(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, authorityFile))
	return dir != "" && err == nil
}

// OpenAuthority returns the authority that is kept in a folder, or makes one and keeps
// it there. Without a folder it is kept nowhere.
func OpenAuthority(dir string) (*Authority, error) {
	if dir == "" {
		return newAuthority()
	}
	name := filepath.Join(dir, authorityFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		a, err := newAuthority()
		if err != nil {
			return nil, err
		}
		return a, a.keep(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the class's keys: %w", err)
	}
	a, err := parseAuthority(text)
	if err != nil {
		return nil, fmt.Errorf("read the class's keys in %s: %w", name, err)
	}
	return a, nil
}

func newAuthority() (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	a := &Authority{key: key}
	var random [5]byte
	rand.Read(random[:]) // It cannot fail.
	copy(a.secret[:], digits.EncodeToString(random[:]))
	a.cert, err = a.sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "etcd by example, a class"},
		NotAfter:              time.Now().Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}, key.Public())
	return a, err
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func parseAuthority(text []byte) (*Authority, error) {
	a := &Authority{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch block.Type {
		case keyBlock:
			a.key, err = parseKey(block.Bytes)
		case certBlock:
			a.cert, err = x509.ParseCertificate(block.Bytes)
		case secretBlock:
			copy(a.secret[:], block.Bytes)
		}
		if err != nil {
			return nil, err
		}
	}
	if a.key == nil || a.cert == nil || a.secret == (secret{}) {
		return nil, errors.New("it is not complete")
	}
	return a, nil
}

func (a *Authority) keep(name string) error {
	key, err := marshalKey(a.key)
	if err != nil {
		return err
	}
	text := append(key, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: a.cert.Raw})...)
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: secretBlock, Bytes: a.secret[:]})...)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("keep the class's keys: %w", err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return fmt.Errorf("keep the class's keys: %w", err)
	}
	return nil
}

func marshalKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is no ECDSA key")
	}
	return key, nil
}

// sign completes a certificate and signs it.
func (a *Authority) sign(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-skew)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// user signs that who has a key is a user of the class's etcd.
func (a *Authority) user(name string, public crypto.PublicKey) (*x509.Certificate, error) {
	return a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		NotAfter:    time.Now().Add(learnerLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, public)
}

// identity returns a new key with the authority's signature, and what it takes to be
// known by it: the authority's own certificate comes along.
func (a *Authority) identity(sign func(crypto.PublicKey) (*x509.Certificate, error)) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := sign(key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw, a.cert.Raw}, PrivateKey: key}, nil
}

// server returns what the class shows to those who connect.
func (a *Authority) server() (*tls.Certificate, error) {
	return a.identity(func(public crypto.PublicKey) (*x509.Certificate, error) {
		return a.sign(&x509.Certificate{
			Subject:     pkix.Name{CommonName: serverName},
			DNSNames:    []string{serverName},
			NotAfter:    time.Now().Add(authorityLife),
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}, public)
	})
}

// Secure returns what has a class's members take the certificates of the authority,
// and none else. Their root is who holds the returned configuration.
func (a *Authority) Secure() (*cluster.Secure, error) {
	server, err := a.server()
	if err != nil {
		return nil, err
	}
	root, err := a.identity(func(public crypto.PublicKey) (*x509.Certificate, error) {
		return a.user(rootUser, public)
	})
	if err != nil {
		return nil, err
	}
	secure := &cluster.Secure{
		CA:     pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: a.cert.Raw}),
		Client: a.print().known(root),
	}
	for _, der := range server.Certificate {
		secure.Cert = append(secure.Cert, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der})...)
	}
	secure.Key, err = marshalKey(server.PrivateKey.(*ecdsa.PrivateKey))
	return secure, err
}

// print returns what the authority is known by.
func (a *Authority) print() fingerprint { return printOf(a.cert) }

func printOf(cert *x509.Certificate) (print fingerprint) {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	copy(print[:], digits.EncodeToString(sum[:]))
	return print
}

// hash tells one key from another.
func hash(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("read a key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

var errStranger = errors.New("not the class of this code")

// known returns how to connect to a class that is known by its fingerprint, wherever
// it is, as the one who has a certificate; without one, as nobody.
func (print fingerprint) known(mine *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The address tells nothing, so what the standard check looks at is looked at
		// in VerifyConnection, before anything is sent.
		InsecureSkipVerify: true,
		VerifyConnection:   print.verify,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if mine == nil {
				return &tls.Certificate{}, nil
			}
			return mine, nil
		},
	}
}

// verify returns an error unless the other side is the class with the fingerprint.
func (print fingerprint) verify(other tls.ConnectionState) error {
	authorities := x509.NewCertPool()
	for _, cert := range other.PeerCertificates {
		if printOf(cert) == print {
			authorities.AddCert(cert)
		}
	}
	leaf := other.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		DNSName: serverName,
		Roots:   authorities,
		// The clock of a laptop may be wrong by years. Whose the key is does not
		// depend on it.
		CurrentTime: leaf.NotBefore,
	})
	if err != nil {
		return errStranger
	}
	return nil
}
