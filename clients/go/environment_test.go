package sessionauthority_test

import (
	"context"
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	sa "github.com/session-authority/session-authority/clients/go"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// certificate writes a self-signed certificate for 127.0.0.1 and the name, and its key. It returns
// the names of the two files.
func certificate(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
		BasicConstraintsValid: true,
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(kind string, data []byte) string {
		file := filepath.Join(t.TempDir(), "file.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data})
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("CERTIFICATE", made), write("PRIVATE KEY", private)
}

func TestTheEnvironmentNamesTheCredentialsOfTheCaller(t *testing.T) {
	serverCert, serverKey := certificate(t, "service")
	callerCert, callerKey := certificate(t, "gateway")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	service := newScripted(t)
	service.start(t, "127.0.0.1:0", grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert,
	})))
	var caller, token string
	service.validate = func(
		ctx context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		from, _ := peer.FromContext(ctx)
		caller = from.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].DNSNames[0]
		values, _ := metadata.FromIncomingContext(ctx)
		token = values.Get("authorization")[0]
		return active(r.GetDeviceId()), nil
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AUTHORITY_CA", serverCert)
	t.Setenv("AUTHORITY_CERT", callerCert)
	t.Setenv("AUTHORITY_KEY", callerKey)
	t.Setenv("AUTHORITY_TOKEN_FILE", file)
	opts, err := sa.OptionsFromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.client(t, opts...).ValidateSession(
		t.Context(), "token", testDevice, nil,
	); err != nil {
		t.Fatal(err)
	}
	if caller != "gateway" || token != "Bearer secret" {
		t.Errorf("the service saw %q with %q", caller, token)
	}
}

func TestAWrongEnvironmentIsRefused(t *testing.T) {
	cert, key := certificate(t, "gateway")
	for name, variables := range map[string]map[string]string{
		"a certificate alone": {"AUTHORITY_CERT": cert},
		"a key alone":         {"AUTHORITY_KEY": key},
		"no certificate":      {"AUTHORITY_CA": key},
		"no file":             {"AUTHORITY_CA": filepath.Join(t.TempDir(), "none")},
		"no token":            {"AUTHORITY_TOKEN_FILE": filepath.Join(t.TempDir(), "none")},
		"another's key":       {"AUTHORITY_CERT": key, "AUTHORITY_KEY": cert},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range variables {
				t.Setenv(variable, value)
			}
			if _, err := sa.OptionsFromEnvironment(); err == nil {
				t.Error("no error")
			}
		})
	}
	opts, err := sa.OptionsFromEnvironment()
	if err != nil || len(opts) != 0 {
		t.Errorf("got %d options, %v", len(opts), err)
	}
}
