package requests_test

import (
	"testing"

	"github.com/session-authority/session-authority/clients/go/internal/requests"
	"github.com/session-authority/session-authority/clients/go/internal/vectors"
)

func unless(known bool, setting string) any {
	if known {
		return nil
	}
	return setting
}

func TestNextPaths(t *testing.T) {
	vectors.Run(t, "next_paths", func(t *testing.T, c *vectors.Case) {
		var given struct {
			Operation, Text, Target, Default string
			SignInURL                        string `json:"sign_in_url"`
			ReturnPath                       string `json:"return_path"`
		}
		vectors.Decode(t, c.Given, &given)
		switch given.Operation {
		case "local_path":
			path := requests.LocalPath(given.Text, given.Default)
			vectors.Equal(t, c.Expected, map[string]any{"path": path})
		case "next_in":
			path := requests.NextIn(given.Target, given.Default)
			vectors.Equal(t, c.Expected, map[string]any{"path": path})
		case "sign_in_location":
			location := requests.WithNext(given.SignInURL, given.ReturnPath)
			vectors.Equal(t, c.Expected, map[string]any{"location": location})
		default:
			t.Fatalf("unknown operation %q", given.Operation)
		}
	})
}

func TestAddresses(t *testing.T) {
	vectors.Run(t, "addresses", func(t *testing.T, c *vectors.Case) {
		var given struct {
			Operation, Peer, Scheme string
			Headers                 vectors.Pairs
		}
		vectors.Decode(t, c.Given, &given)
		proxies, err := requests.NewProxies(c.Settings.TrustedProxies)
		switch given.Operation {
		case "configure":
			vectors.Equal(t, c.Expected, map[string]any{
				"error": unless(err == nil, "trusted_proxies"),
			})
		case "address":
			if err != nil {
				t.Fatal(err)
			}
			r := &requests.Request{
				Header: given.Headers.Header(), Peer: given.Peer, Secure: given.Scheme == "https",
			}
			vectors.Equal(t, c.Expected, map[string]any{
				"ip_address": proxies.Address(r), "secure": proxies.IsSecure(r),
			})
		default:
			t.Fatalf("unknown operation %q", given.Operation)
		}
	})
}
