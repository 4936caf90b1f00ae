package sessionhttp

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
	"github.com/session-authority/session-authority/clients/go/internal/vectors"
)

// settingsOf returns the settings of a case in the form in which an app writes them.
func settingsOf(given *vectors.Settings) Settings {
	sameSite := func(text string) SameSite {
		switch text {
		case "strict":
			return SameSiteStrict
		case "lax":
			return SameSiteLax
		}
		return SameSite(text)
	}
	made := Settings{
		Cookies: Cookies{
			Token: given.TokenCookie, Device: given.DeviceCookie,
			SameSite: sameSite(given.SameSite), Insecure: given.InsecureCookies,
		},
		DeviceHeader: given.DeviceHeader, NoBearer: !given.Bearer,
		NoOriginCheck: !given.CheckOrigin, TrustedOrigins: given.TrustedOrigins,
		TrustedProxies: given.TrustedProxies, ReturnPaths: given.ReturnPaths,
		PassivePaths: given.PassivePaths, Logger: slog.New(slog.DiscardHandler),
	}
	if given.DeviceSameSite != nil {
		made.Cookies.DeviceSameSite = sameSite(*given.DeviceSameSite)
	}
	if given.SignInURL != nil {
		made.SignInURL = *given.SignInURL
	}
	return made
}

func flowOf(t *testing.T, authority Authority, settings Settings) *Flow {
	t.Helper()
	flow, err := NewFlow(authority, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(flow.Close)
	return flow
}

// sent is a request of the shared cases (clients/vectors).
type sent struct {
	Method, Target, Peer, Scheme string
	Headers                      vectors.Pairs
}

func (s *sent) request() *Request {
	return &Request{
		Method: s.Method, Header: s.Headers.Header(), Peer: s.Peer, Target: s.Target,
		Secure: s.Scheme == "https",
	}
}

func TestPresented(t *testing.T) {
	vectors.Run(t, "presented", func(t *testing.T, c *vectors.Case) {
		var given struct{ Request sent }
		vectors.Decode(t, c.Given, &given)
		flow := flowOf(t, nobody{}, settingsOf(&c.Settings))
		found, refused := flow.present(given.Request.request())
		if refused != nil {
			vectors.Equal(t, c.Expected, map[string]any{
				"refusal": refused.Code, "presented": nil,
			})
			return
		}
		client, status := "browser", any(nil)
		if found.app {
			client = "app"
		}
		if found.status != sessionauthority.StatusUnspecified {
			status = found.status.String()
		}
		info := flow.client(&found)
		vectors.Equal(t, c.Expected, map[string]any{"refusal": nil, "presented": map[string]any{
			"client": client, "token": found.token, "token_status": status,
			"device_id": found.deviceID, "brief_session_id": found.brief,
			"wants_page": found.page, "passive": found.passive,
			"return_path": found.wayBack(), "ip_address": info.IPAddress,
			"user_agent": info.UserAgent,
		}})
	})
}

func TestOrigins(t *testing.T) {
	vectors.Run(t, "origins", func(t *testing.T, c *vectors.Case) {
		var given struct {
			Operation, Origin string
			Request           sent
		}
		vectors.Decode(t, c.Given, &given)
		switch given.Operation {
		case "normalize":
			found := any(nil)
			if normal, known := requests.NormalOrigin(vectors.Bytes(given.Origin)); known {
				found = normal
			}
			vectors.Equal(t, c.Expected, map[string]any{"origin": found})
		case "configure":
			found := any(nil)
			if _, err := NewFlow(nobody{}, settingsOf(&c.Settings)); err != nil {
				found = "trusted_origins"
			}
			vectors.Equal(t, c.Expected, map[string]any{"error": found})
		case "request":
			flow := flowOf(t, nobody{}, settingsOf(&c.Settings))
			_, refused := flow.present(given.Request.request())
			vectors.Equal(t, c.Expected, map[string]any{"refused": refused != nil})
		default:
			t.Fatalf("unknown operation %q", given.Operation)
		}
	})
}

func TestCookies(t *testing.T) {
	vectors.Run(t, "cookies", func(t *testing.T, c *vectors.Case) {
		var given struct {
			Operation      string
			CookieHeaders  []string `json:"cookie_headers"`
			Token          string
			DeviceID       string `json:"device_id"`
			BriefSessionID string `json:"brief_session_id"`
			Now, End       float64
			Device, Brief  bool
			SetCookie      string `json:"set_cookie"`
		}
		var shape map[string]json.RawMessage
		vectors.Decode(t, c.Given, &shape)
		if string(shape["operation"]) == `"configure"` {
			vectors.Equal(t, c.Expected, map[string]any{"error": faultyCookie(&c.Settings)})
			return
		}
		vectors.Decode(t, c.Given, &given)
		settings := settingsOf(&c.Settings)
		jar, err := settings.Cookies.checked()
		if err != nil {
			t.Fatal(err)
		}
		switch given.Operation {
		case "read":
			var lines []string
			for _, line := range given.CookieHeaders {
				lines = append(lines, vectors.Bytes(line))
			}
			token, device, brief := jar.read(lines)
			vectors.Equal(t, c.Expected, map[string]any{
				"token": latin1(token), "device_id": latin1(device),
				"brief_session_id": latin1(brief),
			})
		case "hand_out":
			lines, err := jar.handOut(given.Token, given.DeviceID, moment(given.End),
				moment(given.Now), given.BriefSessionID)
			vectors.Equal(t, c.Expected, map[string]any{
				"set_cookie": orNone(lines), "error": cookieError(err),
			})
		case "take_back":
			lines := jar.takeBack(given.Device, given.Brief)
			vectors.Equal(t, c.Expected, map[string]any{"set_cookie": lines})
		case "owns":
			owns := jar.isSetBy(vectors.Bytes(given.SetCookie))
			vectors.Equal(t, c.Expected, map[string]any{"owns": owns})
		default:
			t.Fatalf("unknown operation %q", given.Operation)
		}
	})
}

// faultyCookie returns the name of the setting that is refused, or nil if none is refused.
func faultyCookie(given *vectors.Settings) any {
	settings := settingsOf(given)
	_, err := settings.Cookies.checked()
	if err == nil {
		return nil
	}
	for word, name := range map[string]string{
		"Token must": "token_cookie", "Device must": "device_cookie",
		"Token and Device": "device_cookie", " SameSite must": "same_site",
		"DeviceSameSite must": "device_same_site",
	} {
		if strings.Contains(err.Error(), word) {
			return name
		}
	}
	return err.Error()
}

func cookieError(err error) any {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "can't be the value"):
		return "bad_value"
	case strings.Contains(err.Error(), "longer than browsers keep"):
		return "too_long"
	}
	return err.Error()
}

func orNone(lines []string) []string {
	if lines == nil {
		return []string{}
	}
	return lines
}

// moment converts Unix seconds to a time.
func moment(seconds float64) time.Time {
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)).UTC()
}

// nobody is a service that must not be called: every call but WatchEvents panics.
type nobody struct{ Authority }

func (nobody) WatchEvents(context.Context, *sessionauthority.WatchEventsOptions,
) iter.Seq2[*sessionauthority.EventBatch, error] {
	return func(func(*sessionauthority.EventBatch, error) bool) {}
}
