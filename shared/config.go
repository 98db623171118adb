package shared

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Config returns the client configuration that the environment asks for. The
// variables are etcdctl's own, with its meanings and its defaults, so that one
// export serves both: ETCDCTL_ENDPOINTS, ETCDCTL_USER, ETCDCTL_PASSWORD,
// ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY, ETCDCTL_INSECURE_SKIP_TLS_VERIFY
// and ETCDCTL_DIAL_TIMEOUT. The error names the variable that cannot be used.
//
// Source: etcdctl/ctlv3/ctl.go and etcdctl/ctlv3/command/global.go.
func Config() (*clientv3.Config, error) {
	for _, name := range []string{"ENDPOINTS", "USER", "CACERT", "CERT", "KEY",
		"INSECURE_SKIP_TLS_VERIFY", "DIAL_TIMEOUT"} {
		value := env(name, "")
		if value != "" && strings.ContainsAny(value[:1], `"'`) {
			return nil, fmt.Errorf(
				"ETCDCTL_%s has quotes in its value: set it without them", name)
		}
	}
	timeout, err := time.ParseDuration(env("DIAL_TIMEOUT", "2s"))
	if err != nil || timeout <= 0 {
		return nil, errors.New(
			"ETCDCTL_DIAL_TIMEOUT must be a time above zero, such as 2s")
	}
	skipVerify, err := strconv.ParseBool(env("INSECURE_SKIP_TLS_VERIFY", "false"))
	if err != nil {
		return nil, errors.New(
			"ETCDCTL_INSECURE_SKIP_TLS_VERIFY must be true or false")
	}
	endpoints := strings.Split(env("ENDPOINTS", "127.0.0.1:2379"), ",")
	for i := range endpoints {
		endpoints[i] = strings.TrimSpace(endpoints[i])
	}
	spec := &clientv3.ConfigSpec{
		Endpoints:   endpoints,
		DialTimeout: timeout,
		// They find a member that hangs. gRPC takes less than 10 s for 10 s.
		KeepAliveTime:    10 * time.Second,
		KeepAliveTimeout: 6 * time.Second,
		Secure: &clientv3.SecureConfig{
			Cacert:             env("CACERT", ""),
			Cert:               env("CERT", ""),
			Key:                env("KEY", ""),
			InsecureTransport:  true,
			InsecureSkipVerify: skipVerify,
		},
	}
	if user := env("USER", ""); user != "" {
		password := env("PASSWORD", "")
		if password == "" {
			user, password, _ = strings.Cut(user, ":")
		}
		if password == "" {
			return nil, errors.New(
				"ETCDCTL_USER has no password: set ETCDCTL_PASSWORD as well")
		}
		spec.Auth = &clientv3.AuthConfig{Username: user, Password: password}
	}
	config, err := clientv3.NewClientConfig(spec, zap.NewNop())
	if err != nil {
		return nil, fmt.Errorf(
			"cannot use ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY: %w", err)
	}
	// The client writes JSON to stderr unless it is given another logger.
	config.Logger = zap.NewNop()
	return config, nil
}

// env returns etcdctl's variable of that name. Like etcdctl it takes an empty
// one for one that is not set.
func env(name, otherwise string) string {
	return cmp.Or(os.Getenv("ETCDCTL_"+name), otherwise)
}
