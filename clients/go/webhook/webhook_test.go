package webhook_test

import (
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/session-authority/session-authority/clients/go/internal/vectors"
	"github.com/session-authority/session-authority/clients/go/webhook"
)

type given struct {
	Operation string
	Secrets   []string `json:"secrets_base64"`
	EventID   string   `json:"event_id"`
	Now       float64
	Body      string `json:"body_base64"`
	Secret    string
	Tolerance float64 `json:"tolerance_seconds"`
	Headers   map[string]string
}

func TestVectorsOfSignatures(t *testing.T) {
	vectors.Run(t, "signatures", func(t *testing.T, c *vectors.Case) {
		var asked given
		vectors.Decode(t, c.Given, &asked)
		seconds, part := math.Modf(asked.Now)
		now := time.Unix(int64(seconds), int64(part*1e9))
		body := decoded(t, asked.Body)
		switch asked.Operation {
		case "sign":
			var secrets [][]byte
			for _, secret := range asked.Secrets {
				secrets = append(secrets, decoded(t, secret))
			}
			headers := map[string]string{}
			for name, values := range webhook.Sign(secrets, asked.EventID, body, now) {
				headers[strings.ToLower(name)] = values[0]
			}
			vectors.Equal(t, c.Expected, map[string]any{"headers": headers})
		case "verify":
			if asked.Tolerance != webhook.Tolerance.Seconds() {
				t.Fatalf("the tolerance is %v seconds", asked.Tolerance)
			}
			header := http.Header{}
			for name, value := range asked.Headers {
				header.Set(name, value)
			}
			err := webhook.Verify(asked.Secret, header, body, now)
			if err != nil && !errors.Is(err, webhook.ErrInvalid) {
				t.Errorf("got %v", err)
			}
			vectors.Equal(t, c.Expected, map[string]any{"valid": err == nil})
		default:
			t.Fatalf("unknown operation %q", asked.Operation)
		}
	})
}

func TestTheErrorOfAWrongSecretIsNotErrInvalid(t *testing.T) {
	for _, secret := range []string{"", "whsec_", "whsec_%"} {
		err := webhook.Verify(secret, http.Header{}, nil, time.Now())
		if err == nil || errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%q: got %v", secret, err)
		}
	}
}

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func FuzzVerify(f *testing.F) {
	f.Add("e1", "1767225600", "v1,RC9Yn3WwjBR0BrjhNmw2EoTE3eLQJzLU3Oog6QOPBCw=", []byte("{}"))
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		header := http.Header{}
		header.Set("webhook-id", id)
		header.Set("webhook-timestamp", timestamp)
		header.Set("webhook-signature", signature)
		const secret = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3"
		if webhook.Verify(secret, header, body, time.Unix(1767225600, 0)) == nil {
			t.Error("a signature was guessed")
		}
	})
}
