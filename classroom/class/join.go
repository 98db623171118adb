package class

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrRefused is wrapped by the errors with which a class does not let a learner in.
var ErrRefused = errors.New("the class does not let you in")

// pass is what a learner has who was let in.
type pass struct {
	cert      *tls.Certificate
	endpoints []string // of etcd's members
}

// enter asks to be let in under a name, which belongs to a key, or did so before when it
// is again. The class is known by the code's fingerprint before the code's secret is
// told.
func (c Code) enter(ctx context.Context, name string, key *ecdsa.PrivateKey, again bool) (pass, error) {
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return pass{}, fmt.Errorf("ask for a certificate: %w", err)
	}
	body, err := json.Marshal(joinRequest{name, string(c.secret[:]), request, again})
	if err != nil {
		return pass{}, fmt.Errorf("ask for a certificate: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: c.print.known(nil), DisableKeepAlives: true}}
	asked, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.Address+joinPath, bytes.NewReader(body))
	if err != nil {
		return pass{}, fmt.Errorf("join the class: %w", err)
	}
	answer, err := client.Do(asked)
	switch {
	case errors.Is(err, errStranger):
		return pass{}, fmt.Errorf("what answers at %s is %w, and was told nothing: "+
			"compare the twelve characters after the / with the teacher's", c.Address, errStranger)
	case err != nil:
		return pass{}, fmt.Errorf("no class answers at %s (%w): check the address, "+
			"and that you are in the teacher's network", c.Address, reason(err))
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxJoin))
	if err != nil {
		return pass{}, fmt.Errorf("the class at %s breaks off: %w", c.Address, reason(err))
	}
	if answer.StatusCode != http.StatusOK {
		return pass{}, fmt.Errorf("%w: %s", ErrRefused, strings.TrimSpace(string(text)))
	}
	var admitted joinAnswer
	if err := json.Unmarshal(text, &admitted); err != nil {
		return pass{}, fmt.Errorf("read the answer of the class: %w", err)
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return pass{}, fmt.Errorf("join the class: %w", err)
	}
	in := pass{cert: &tls.Certificate{Certificate: [][]byte{admitted.Certificate}, PrivateKey: key}}
	for _, port := range admitted.Ports {
		in.endpoints = append(in.endpoints, "https://"+net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return in, nil
}

// reason returns what is wrong with a connection, without what was being done.
func reason(err error) error {
	if call := new(os.SyscallError); errors.As(err, &call) {
		return call.Err
	}
	if op := new(net.OpError); errors.As(err, &op) {
		return op.Err
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return errors.New("no answer in time")
	}
	return err
}

// openKey returns the key in a file, and makes one the first time.
func openKey(file string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read your key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("read your key: %s holds none", file)
	}
	key, err := parseKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read your key in %s: %w", file, err)
	}
	return key, nil
}

func makeKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	text, err := marshalKey(key)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("keep your key: %w", err)
	}
	return key, nil
}
