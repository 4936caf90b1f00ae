package sessionauthoritytest_test

import (
	"testing"
	"time"

	sa "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/vectors"
	"github.com/session-authority/session-authority/clients/go/sessionauthoritytest"
)

// step is one step of a history in verdicts.json.
type step struct {
	Do                 string            `json:"do"`
	As                 string            `json:"as"`
	Seconds            int               `json:"seconds"`
	UserID             string            `json:"user_id"`
	Token              string            `json:"token"`
	TokenText          string            `json:"token_text"`
	DeviceID           string            `json:"device_id"`
	DeviceIDOf         string            `json:"device_id_of"`
	ExceptDeviceID     string            `json:"except_device_id"`
	SessionTTLSeconds  int               `json:"session_ttl_seconds"`
	IdleTimeoutSeconds int               `json:"idle_timeout_seconds"`
	Claims             map[string]string `json:"claims"`
	AuthMethods        []string          `json:"auth_methods"`
	Passive            bool              `json:"passive"`
	ObserveOnly        bool              `json:"observe_only"`
}

// player runs the steps of a history, and keeps their results.
type player struct {
	authority *sessionauthoritytest.Authority
	client    *sa.Client
	tokens    map[string]string
	assigned  map[string]string
	results   map[string]any
}

func TestTheVerdictsAreThoseOfTheService(t *testing.T) {
	vectors.Run(t, "verdicts", func(t *testing.T, c *vectors.Case) {
		var given struct {
			Settings struct {
				ReplayAlarm string `json:"replay_alarm"`
			} `json:"settings"`
			Steps []step `json:"steps"`
		}
		vectors.DecodeStrictly(t, c.Given, &given)
		authority := sessionauthoritytest.NewWith(t, sessionauthoritytest.Config{
			AlarmOnRenewal: given.Settings.ReplayAlarm == "renewed",
		})
		p := &player{
			authority, authority.Client(), map[string]string{}, map[string]string{}, map[string]any{},
		}
		for _, each := range given.Steps {
			if err := p.take(t, &each); err != nil {
				t.Fatalf("%+v: %v", each, err)
			}
		}
		vectors.Equal(t, c.Expected, map[string]any{"results": p.results})
	})
}

func (p *player) take(t *testing.T, s *step) error {
	t.Helper()
	ctx := t.Context()
	switch s.Do {
	case "wait":
		p.authority.PassTime(time.Duration(s.Seconds) * time.Second)
		return nil
	case "sign_in":
		return p.signIn(t, s)
	case "validate":
		return p.validate(t, s)
	case "renew":
		return p.renew(t, s)
	case "revoke_device":
		_, err := p.client.RevokeDevice(ctx, s.UserID, s.DeviceID, nil)
		return err
	case "revoke_all":
		_, err := p.client.RevokeAll(
			ctx, s.UserID, &sa.RevokeAllOptions{ExceptDeviceID: s.ExceptDeviceID})
		return err
	case "update_session":
		_, err := p.client.UpdateSession(
			ctx, s.UserID, s.Claims, &sa.UpdateSessionOptions{DeviceID: s.DeviceID})
		return err
	case "list_devices":
		return p.list(t, s)
	default:
		t.Fatalf("%s is no step", s.Do)
		return nil
	}
}

func (p *player) signIn(t *testing.T, s *step) error {
	issued, err := p.client.IssueDevice(t.Context(), s.UserID, &sa.IssueDeviceOptions{
		DeviceID:    s.DeviceID,
		Claims:      s.Claims,
		AuthMethods: s.AuthMethods,
		SessionTTL:  time.Duration(s.SessionTTLSeconds) * time.Second,
		IdleTimeout: time.Duration(s.IdleTimeoutSeconds) * time.Second,
	})
	if err == nil {
		p.tokens[s.As] = issued.AccessToken
	}
	return err
}

func (p *player) validate(t *testing.T, s *step) error {
	token, device := p.presented(t, s)
	found, err := p.client.ValidateSession(t.Context(), token, device, &sa.ValidateSessionOptions{
		Passive: s.Passive, ObserveOnly: s.ObserveOnly,
	})
	if err != nil {
		return err
	}
	if found.Active != (found.Status == sa.StatusActive) {
		t.Errorf("active and %v at once: %+v", found.Status, found)
	}
	p.assigned[s.As] = found.DeviceID
	p.results[s.As] = map[string]any{
		"status": found.Status.String(), "renew_recommended": found.RenewRecommended,
		"revoked_devices": found.RevokedDevices, "device_id_assigned": found.DeviceIDAssigned,
		"session": told(&found.Session),
	}
	return nil
}

func (p *player) renew(t *testing.T, s *step) error {
	token, device := p.presented(t, s)
	renewal, err := p.client.RenewSession(
		t.Context(), token, device, &sa.RenewSessionOptions{Passive: s.Passive})
	if err != nil {
		return err
	}
	if renewal.Rotated != (renewal.AccessToken != "") {
		t.Errorf("rotated without a token, or the reverse: %+v", renewal)
	}
	p.tokens[s.As] = renewal.AccessToken
	p.results[s.As] = map[string]any{
		"status": renewal.Status.String(), "rotated": renewal.Rotated,
		"revoked_devices": renewal.RevokedDevices, "session": told(&renewal.Session),
	}
	return nil
}

// presented returns the token and the device ID that a step presents.
func (p *player) presented(t *testing.T, s *step) (token, device string) {
	token, device = s.TokenText, s.DeviceID
	var hasToken, hasDevice = true, true
	if s.Token != "" {
		token, hasToken = p.tokens[s.Token]
	}
	if s.DeviceIDOf != "" {
		device, hasDevice = p.assigned[s.DeviceIDOf]
	}
	if !hasToken || !hasDevice {
		t.Fatalf("no step before has the token or the device ID of %+v", s)
	}
	return token, device
}

func (p *player) list(t *testing.T, s *step) error {
	page, err := p.client.ListDevices(
		t.Context(), s.UserID, &sa.ListDevicesOptions{IncludeSignedOut: true})
	if err != nil {
		return err
	}
	devices := map[string]any{}
	for _, device := range page.Devices {
		var cause any
		if device.LastAlarm != nil {
			cause = device.LastAlarm.ReplayCause.String()
		}
		methods := append([]string{}, device.AuthMethods...)
		devices[device.DeviceID] = map[string]any{
			"signed_in": device.SignedIn, "auth_methods": methods, "replay_cause": cause,
		}
	}
	p.results[s.As] = map[string]any{"devices": devices}
	return nil
}

// told returns the facts of a session for a result, or nil if there is no session.
func told(session *sa.Session) any {
	if session.SessionID == "" {
		return nil
	}
	return map[string]any{"generation": session.Generation, "claims": session.Claims.Map()}
}
