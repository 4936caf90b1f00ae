package sessionauthority

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// OptionsFromEnvironment returns options with this caller's credentials. It reads the credentials
// from the files that AUTHORITY_CA, AUTHORITY_CERT, AUTHORITY_KEY and AUTHORITY_TOKEN_FILE name:
// the CA of the service, this caller's certificate and its key (all in PEM), and its bearer token.
// The token is read for each call, so that it may change.
//
// If neither AUTHORITY_CA nor AUTHORITY_CERT is set, the connection is plaintext, as
// `session-authority dev` needs it. So the same code runs against `session-authority dev` and
// against a service in production.
//
// It returns an error if there is a certificate without its key or a key without its certificate,
// or if a file can't be read or holds no PEM data of its kind.
func OptionsFromEnvironment() ([]Option, error) {
	ca, certificate, key := os.Getenv("AUTHORITY_CA"), os.Getenv("AUTHORITY_CERT"),
		os.Getenv("AUTHORITY_KEY")
	if (certificate == "") != (key == "") {
		return nil, errors.New("AUTHORITY_CERT and AUTHORITY_KEY: set both or neither")
	}
	var opts []Option
	if ca != "" || certificate != "" {
		config, err := tlsFromFiles(ca, certificate, key)
		if err != nil {
			return nil, err
		}
		opts = append(opts, WithTLS(config))
	}
	if file := os.Getenv("AUTHORITY_TOKEN_FILE"); file != "" {
		source := func() (string, error) {
			token, err := os.ReadFile(file)
			return strings.TrimSpace(string(token)), err
		}
		if _, err := source(); err != nil { // reports a missing file now, and not at the first call
			return nil, fmt.Errorf("AUTHORITY_TOKEN_FILE: %w", err)
		}
		opts = append(opts, WithTokenSource(source))
	}
	return opts, nil
}

func tlsFromFiles(ca, certificate, key string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("AUTHORITY_CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("AUTHORITY_CA: %s holds no certificates in PEM form", ca)
		}
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("AUTHORITY_CERT and AUTHORITY_KEY: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
