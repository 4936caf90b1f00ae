package sessionhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/vectors"
)

// comparedHeaders are the headers of a response that the cases may name.
var comparedHeaders = []string{
	"Cache-Control", "Clear-Site-Data", "Content-Type", "Content-Security-Policy", "Location",
	"Retry-After", "Vary", "Www-Authenticate", "Accept-Ch",
}

func TestConduct(t *testing.T) {
	vectors.Run(t, "conduct", func(t *testing.T, c *vectors.Case) {
		var given struct {
			Now     float64
			Request sent
			Service map[string]*scriptedAnswer
			App     scriptedApp
		}
		vectors.Decode(t, c.Given, &given)
		service := &scriptedService{t: t, answers: given.Service, calls: []map[string]any{}}
		flow := flowOf(t, service, settingsOf(&c.Settings))
		flow.now = func() time.Time { return moment(given.Now) }
		recorder := httptest.NewRecorder()
		flow.Middleware(&given.App).ServeHTTP(recorder, given.Request.http())

		response, headers := recorder.Result(), map[string]string{}
		for _, name := range comparedHeaders {
			if lines := response.Header[name]; len(lines) > 0 {
				headers[strings.ToLower(name)] = strings.Join(lines, ", ")
			}
		}
		var expected struct {
			Body struct {
				Kind               string
				JSON               map[string]any
				Includes, Excludes []string
			}
		}
		vectors.Decode(t, c.Expected, &expected)
		body := map[string]any{"kind": "empty"}
		text := recorder.Body.String()
		switch {
		case text == "served":
			body["kind"] = "app"
		case strings.HasPrefix(text, "{"):
			body["kind"], body["json"] = expected.Body.Kind, jsonBody(t, text, expected.Body.JSON,
				expected.Body.Kind == "json_with")
		case text != "":
			body["kind"] = "page"
			body["includes"], body["excludes"] = found(text, expected.Body.Includes),
				missing(text, expected.Body.Excludes)
		}
		vectors.Equal(t, c.Expected, map[string]any{
			"calls": service.calls, "app_ran": given.App.ran, "session_id": given.App.seen,
			"status": response.StatusCode, "headers": headers,
			"set_cookie": orNone(response.Header["Set-Cookie"]), "body": body,
		})
	})
}

// jsonBody returns the members of a JSON object. If isPart is true, it returns only the expected
// members.
func jsonBody(t *testing.T, text string, expected map[string]any, isPart bool) map[string]any {
	t.Helper()
	var body map[string]any
	vectors.Decode(t, []byte(text), &body)
	for name := range body {
		if _, isExpected := expected[name]; isPart && !isExpected {
			delete(body, name)
		}
	}
	return body
}

func found(text string, wanted []string) []string {
	made := []string{}
	for _, each := range wanted {
		if strings.Contains(text, each) {
			made = append(made, each)
		}
	}
	return made
}

func missing(text string, unwanted []string) []string {
	made := []string{}
	for _, each := range unwanted {
		if !strings.Contains(text, each) {
			made = append(made, each)
		}
	}
	return made
}

// http returns the request in the form in which a server of net/http passes it on.
func (s *sent) http() *http.Request {
	header := s.Headers.Header()
	host := header.Get("Host")
	header.Del("Host")
	address, _ := url.ParseRequestURI(s.Target)
	r := &http.Request{
		Method: s.Method, URL: address, RequestURI: s.Target, Header: header, Host: host,
		Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: s.Peer,
	}
	if s.Scheme == "https" {
		r.TLS = &tls.ConnectionState{}
	}
	if s.Peer == "" {
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey,
			&net.UnixAddr{Net: "unix"}))
	}
	return r
}

// scriptedApp makes the calls that a case lists, and answers "served".
type scriptedApp struct {
	Action        string
	Status        int
	Headers       vectors.Pairs
	UserID        string   `json:"user_id"`
	Remember      *bool    `json:"remember"`
	MaxAgeSeconds *float64 `json:"max_age_seconds"`
	AuthMethods   []string `json:"auth_methods"`

	ran  bool
	seen any
}

func (a *scriptedApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.ran = true
	visit := FromContext(r.Context())
	err := a.act(r.Context(), visit)
	if visit.looked && visit.session != nil { // after a refused step-up the session is still good
		a.seen = visit.session.SessionID
	}
	if err != nil {
		if !errors.As(err, new(*Refusal)) {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		return
	}
	for _, pair := range a.Headers {
		w.Header().Add(pair[0], pair[1])
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write([]byte("served"))
}

func (a *scriptedApp) act(ctx context.Context, visit *Visit) error {
	var err error
	switch a.Action {
	case "look":
		_, err = visit.Session()
	case "require_session":
		_, err = visit.Require()
	case "require_step_up":
		var demands []Demand
		if a.MaxAgeSeconds != nil {
			demands = append(demands, MaxAge(time.Duration(*a.MaxAgeSeconds*float64(time.Second))))
		}
		if len(a.AuthMethods) > 0 {
			demands = append(demands, AuthMethods(a.AuthMethods...))
		}
		_, err = visit.Require(demands...)
	case "sign_in":
		isBrief := a.Remember != nil && !*a.Remember
		if _, err = visit.SignIn(ctx, a.UserID, SignIn{EndWithBrowser: isBrief}); err == nil {
			_, err = visit.Session()
		}
	case "sign_out":
		_, err = visit.SignOut(ctx, SignOut{})
	case "renew":
		if _, err = visit.Renew(ctx); err == nil {
			_, err = visit.Session()
		}
	case "ignore":
	default:
		err = fmt.Errorf("unknown action %q", a.Action)
	}
	return err
}

// scriptedAnswer is the service's answer to a call.
type scriptedAnswer struct {
	Status            string
	Session           *scriptedSession
	RenewRecommended  bool     `json:"renew_recommended"`
	AccessToken       *string  `json:"access_token"`
	DeviceID          string   `json:"device_id"`
	SessionID         string   `json:"session_id"`
	ExpiresAt         float64  `json:"expires_at"`
	AbsoluteExpiresAt *float64 `json:"absolute_expires_at"`
	TokenExpiresAt    float64  `json:"token_expires_at"`
	Revoked           bool
	Error             *struct {
		Kind              string
		RetryAfterSeconds *float64 `json:"retry_after_seconds"`
	}
}

type scriptedSession struct {
	UserID            string   `json:"user_id"`
	DeviceID          string   `json:"device_id"`
	SessionID         string   `json:"session_id"`
	AuthMethods       []string `json:"auth_methods"`
	SignInAt          float64  `json:"sign_in_at"`
	TokenExpiresAt    float64  `json:"token_expires_at"`
	ExpiresAt         float64  `json:"expires_at"`
	AbsoluteExpiresAt *float64 `json:"absolute_expires_at"`
}

func (s *scriptedSession) value() sessionauthority.Session {
	if s == nil {
		return sessionauthority.Session{}
	}
	return sessionauthority.Session{
		UserID: s.UserID, DeviceID: s.DeviceID, SessionID: s.SessionID, Generation: 1,
		AuthMethods: s.AuthMethods, SignInTime: moment(s.SignInAt),
		TokenExpireTime: moment(s.TokenExpiresAt), ExpireTime: moment(s.ExpiresAt),
		AbsoluteExpireTime: maybeMoment(s.AbsoluteExpiresAt),
	}
}

func maybeMoment(seconds *float64) time.Time {
	if seconds == nil {
		return time.Time{}
	}
	return moment(*seconds)
}

var errorKinds = map[string][]error{
	"unavailable": {sessionauthority.ErrUnavailable},
	"overloaded":  {sessionauthority.ErrOverloaded, sessionauthority.ErrUnavailable},
	"not_replicated": {
		sessionauthority.ErrNotReplicated, sessionauthority.ErrUnavailable,
	},
	"caller_unknown":     {sessionauthority.ErrCallerUnknown},
	"caller_not_allowed": {sessionauthority.ErrCallerNotAllowed},
	"invalid_request":    {sessionauthority.ErrInvalidRequest},
	"internal_error":     {sessionauthority.ErrInternal},
	"conflict":           {sessionauthority.ErrConflict},
	"other":              {},
}

func statusNamed(t *testing.T, name string) sessionauthority.SessionStatus {
	t.Helper()
	for status := range conducts {
		if status.String() == name {
			return status
		}
	}
	t.Fatalf("unknown status %q", name)
	return 0
}

// scriptedService gives the answers that a case lists. A call that the case does not name fails the
// test.
type scriptedService struct {
	nobody
	t       *testing.T
	answers map[string]*scriptedAnswer
	calls   []map[string]any
}

func (s *scriptedService) answer(
	method string, call map[string]any,
) (*scriptedAnswer, error) {
	answer := s.answers[method]
	if answer == nil {
		s.t.Fatalf("%s must not be called", method)
	}
	call["method"] = method
	s.calls = append(s.calls, call)
	if answer.Error == nil {
		return answer, nil
	}
	kinds, known := errorKinds[answer.Error.Kind]
	if !known {
		s.t.Fatalf("unknown kind of error %q", answer.Error.Kind)
	}
	failed := &sessionauthority.Error{}
	if seconds := answer.Error.RetryAfterSeconds; seconds != nil {
		wait := time.Duration(*seconds * float64(time.Second))
		failed.RetryAfter = &wait
	}
	return nil, errors.Join(append([]error{failed}, kinds...)...)
}

func (s *scriptedService) ValidateSession(
	_ context.Context, token, device string, opts *sessionauthority.ValidateSessionOptions,
) (sessionauthority.Validation, error) {
	answer, err := s.answer("validate_session", map[string]any{
		"access_token": token, "device_id": device, "passive": opts.Passive,
	})
	if err != nil {
		return sessionauthority.Validation{}, err
	}
	return sessionauthority.Validation{
		Active: answer.Status == "ACTIVE", Status: statusNamed(s.t, answer.Status),
		Session: answer.Session.value(), RenewRecommended: answer.RenewRecommended,
	}, nil
}

func (s *scriptedService) RenewSession(
	_ context.Context, token, device string, opts *sessionauthority.RenewSessionOptions,
) (*sessionauthority.Renewal, error) {
	answer, err := s.answer("renew_session", map[string]any{
		"access_token": token, "device_id": device, "passive": opts.Passive,
	})
	if err != nil {
		return nil, err
	}
	made := &sessionauthority.Renewal{
		Status: statusNamed(s.t, answer.Status), Session: answer.Session.value(),
	}
	if answer.AccessToken != nil {
		made.AccessToken, made.Rotated = *answer.AccessToken, true
	}
	return made, nil
}

func (s *scriptedService) IssueDevice(
	_ context.Context, user string, opts *sessionauthority.IssueDeviceOptions,
) (*sessionauthority.IssuedDevice, error) {
	idle := any(nil)
	if opts.IdleTimeout != 0 {
		idle = opts.IdleTimeout.Seconds()
	}
	answer, err := s.answer("issue_device", map[string]any{
		"user_id": user, "device_id": opts.DeviceID, "idle_timeout_seconds": idle,
	})
	if err != nil {
		return nil, err
	}
	return &sessionauthority.IssuedDevice{
		Device: sessionauthority.Device{
			DeviceID: answer.DeviceID, SessionID: answer.SessionID,
			ExpireTime: moment(answer.ExpiresAt), SignedIn: true, Current: true,
			AbsoluteExpireTime: maybeMoment(answer.AbsoluteExpiresAt),
		},
		AccessToken: *answer.AccessToken, TokenExpireTime: moment(answer.TokenExpiresAt),
	}, nil
}

func (s *scriptedService) RevokeDevice(
	_ context.Context, user, device string, opts *sessionauthority.RevokeDeviceOptions,
) (bool, error) {
	answer, err := s.answer("revoke_device", map[string]any{
		"user_id": user, "device_id": device, "reason": opts.Reason, "forget": opts.Forget,
	})
	if err != nil {
		return false, err
	}
	return answer.Revoked, nil
}
