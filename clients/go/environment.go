package sessionauthority

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// OptionsFromEnvironment returns options of NewClient with this caller's credentials. Environment
// variables name the files with the credentials. AUTHORITY_CA names the file of the CA that issued
// the service's certificate. AUTHORITY_CERT names the file of this caller's certificate, and
// AUTHORITY_KEY the file of the certificate's key. These three files are in PEM form.
// AUTHORITY_TOKEN_FILE names the file of this caller's bearer token. The client reads the token
// file again for each call, so the token may change.
//
// If neither AUTHORITY_CA nor AUTHORITY_CERT is set, the connection is plaintext.
// `session-authority dev` needs a plaintext connection. So the same code works with
// `session-authority dev` and with a service in production.
//
// OptionsFromEnvironment returns an error if only one of AUTHORITY_CERT and AUTHORITY_KEY is set.
// It also returns an error if a file can't be read, or if a file does not have the expected PEM
// data.
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
