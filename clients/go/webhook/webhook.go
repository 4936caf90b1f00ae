// Package webhook verifies the signature of a webhook. A valid signature proves that the webhook
// comes from a Session Authority that has the secret. The signature follows the specification
// Standard Webhooks. The package does not parse the webhook's body.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Tolerance is the greatest accepted difference between the time of a webhook and the receiver's
// time. If the difference is greater, the webhook may be an old one that an attacker sends again.
const Tolerance = 5 * time.Minute

const (
	idHeader        = "webhook-id"
	timestampHeader = "webhook-timestamp"
	signatureHeader = "webhook-signature"
	secretPrefix    = "whsec_"
	version         = "v1,"
)

// ErrInvalid is the error of every webhook that is not valid. Answer such a webhook with the HTTP
// status 401.
var ErrInvalid = errors.New("webhook: not valid")

// Verify returns nil if a webhook was signed with secret, and if its time differs from now by at
// most Tolerance. If the webhook is not valid, Verify returns an error that wraps ErrInvalid. body
// must be exactly the received bytes. secret is "whsec_" followed by base64, as in the service's
// configuration. If secret is empty or is not base64, the error does not wrap ErrInvalid.
//
// The service may send a webhook more than once. All copies have the same ID, in the header
// "webhook-id".
func Verify(secret string, header http.Header, body []byte, now time.Time) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil || len(key) == 0 {
		return errors.New("webhook: the secret must be whsec_ and base64")
	}
	id, timestamp := header.Get(idHeader), header.Get(timestampHeader)
	if id == "" {
		return fmt.Errorf("%w: it has no ID", ErrInvalid)
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: its timestamp is no number", ErrInvalid)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > Tolerance || age < -Tolerance {
		return fmt.Errorf("%w: its time is too far from now", ErrInvalid)
	}
	expected := []byte(sign(key, id, timestamp, body))
	for one := range strings.SplitSeq(header.Get(signatureHeader), " ") {
		if hmac.Equal([]byte(one), expected) {
			return nil
		}
	}
	return fmt.Errorf("%w: no signature is of this secret", ErrInvalid)
}

// Sign returns the headers of a webhook, for tests of a receiver. It makes one signature with each
// secret. A secret is given as bytes: the decoded base64, without "whsec_". With several secrets
// you can test a receiver for the time in which the service's secret is replaced, because the
// service then sends several signatures.
func Sign(secrets [][]byte, id string, body []byte, now time.Time) http.Header {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	var signatures []string
	for _, secret := range secrets {
		signatures = append(signatures, sign(secret, id, timestamp, body))
	}
	header := http.Header{}
	header.Set(idHeader, id)
	header.Set(timestampHeader, timestamp)
	header.Set(signatureHeader, strings.Join(signatures, " "))
	return header
}

func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return version + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
