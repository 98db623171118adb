package diagnose

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Endpoint says more of err, with which a call to an endpoint has failed, as far
// as that can be found out: what Explain says of the error that it returns.
func Endpoint(ctx context.Context, config *clientv3.Config, endpoint string,
	err error) error {
	scheme, address, found := strings.Cut(endpoint, "://")
	if !found {
		scheme, address = "", endpoint
	}
	if strings.HasPrefix(scheme, "unix") || strings.HasPrefix(address, "unix:") {
		return err
	}
	if through := proxy(address); through != nil {
		return through
	}
	if scheme == "https" || scheme == "" && config.TLS != nil {
		return cmp.Or(handshake(ctx, config.TLS, address), err)
	}
	return err
}

// proxy says so when the environment sends connections to an address through a
// proxy, as gRPC does with all but those to this machine.
func proxy(address string) error {
	through, err := http.ProxyFromEnvironment(
		&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
	if through == nil && err == nil {
		return nil
	}
	name := "HTTPS_PROXY"
	if os.Getenv(name) == "" {
		name = "https_proxy"
	}
	value := "…" // It is no address, and may hold a password.
	if err == nil {
		value = through.Redacted()
	}
	host, _, _ := net.SplitHostPort(address)
	return cause{fmt.Sprintf("it was not reached through the proxy %s=%s", name, value),
		"export NO_PROXY=" + host + " to go past the proxy"}
}

// handshake greets a server in TLS as gRPC does, and says what goes wrong. gRPC
// tells that as text, and not always the same.
func handshake(ctx context.Context, config *tls.Config, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	wanted, show := false, config.GetClientCertificate
	config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (
		*tls.Certificate, error) {
		wanted = true
		if show == nil {
			return &tls.Certificate{}, nil
		}
		return show(info)
	}
	network, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil // The words of gRPC's error will do.
	}
	defer network.Close()
	config.ServerName, _, _ = net.SplitHostPort(address)
	server := tls.Client(network, config)
	err = server.HandshakeContext(ctx)
	if err == nil && server.ConnectionState().NegotiatedProtocol != "h2" {
		return noHTTP2
	}
	if err == nil {
		// Whether it takes the client's certificate, or wants one, TLS 1.3 tells
		// after the handshake.
		deadline, _ := ctx.Deadline()
		server.SetReadDeadline(deadline)
		_, err = server.Read(make([]byte, 1))
		if _, told := alert(err); !told {
			return nil
		}
	}
	text, told := alert(err)
	switch {
	case told && strings.Contains(text, "application protocol"):
		return noHTTP2
	case told && wanted && show == nil:
		return cause{"it wants a client certificate, and none was given",
			"set ETCDCTL_CERT and ETCDCTL_KEY"}
	case told && wanted:
		return cause{"it refuses the client certificate (" + text + ")",
			"set ETCDCTL_CERT and ETCDCTL_KEY to one that its authority has signed"}
	case told:
		return nil
	}
	return distrust(err)
}

// alert returns what the server has said in TLS before it hung up, if it has. The
// package tls does not tell the kind of an alert, but in words.
func alert(err error) (text string, told bool) {
	operation, ok := errors.AsType[*net.OpError](err)
	if !ok || operation.Op != "remote error" {
		return "", false
	}
	return strings.TrimPrefix(operation.Err.Error(), "tls: "), true
}

// distrust says what this side does not take of what the server has shown in TLS, or
// nil when it does not know.
func distrust(err error) error {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		from, until := invalid.Cert.NotBefore, invalid.Cert.NotAfter
		switch {
		case invalid.Reason != x509.Expired:
			return cause{"its certificate cannot be used: " + invalid.Error(),
				"give it another"}
		case time.Now().Before(from):
			return cause{"its certificate is not valid yet, but from " + day(from) + " on",
				"set the clock of this machine, if it is wrong"}
		default:
			return cause{"its certificate has expired on " + day(until),
				"renew it; or set the clock of this machine, if it is wrong"}
		}
	}
	if other, ok := errors.AsType[x509.HostnameError](err); ok {
		names := other.Certificate.DNSNames
		for _, ip := range other.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		return cause{"its certificate is for another host: " + strings.Join(names, ", "),
			"use that name in ETCDCTL_ENDPOINTS, or give it a certificate for " + other.Host}
	}
	// Where the system verifies, an unknown authority has no type of its own.
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return cause{"its certificate is not trusted",
			"set ETCDCTL_CACERT to the authority that signed it"}
	}
	_, foreign := errors.AsType[tls.RecordHeaderError](err)
	operation, cut := errors.AsType[*net.OpError](err)
	if foreign || errors.Is(err, io.EOF) || cut && !operation.Timeout() {
		return noTLS
	}
	return nil
}

func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }
