package sessionauthoritytest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	sa "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/sessionauthoritytest"
)

func status(
	t *testing.T, client *sa.Client, of sessionauthoritytest.SignedIn,
) sa.SessionStatus {
	t.Helper()
	found, err := client.ValidateSession(t.Context(), of.AccessToken, of.DeviceID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found.Active != (found.Status == sa.StatusActive) {
		t.Errorf("got %+v", found)
	}
	return found.Status
}

func TestTokensHaveTheStatusThatATestGivesThem(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*sessionauthoritytest.Authority)
		want   sa.SessionStatus
	}{
		"expired":  {(*sessionauthoritytest.Authority).ExpireTokens, sa.StatusTokenExpired},
		"replayed": {(*sessionauthoritytest.Authority).ReplayTokens, sa.StatusReplayed},
		"aged":     {(*sessionauthoritytest.Authority).AgeTokens, sa.StatusActive},
		"signed out": {
			func(a *sessionauthoritytest.Authority) { a.SignOut("ada") }, sa.StatusNoSession,
		},
	} {
		t.Run(name, func(t *testing.T) {
			authority := sessionauthoritytest.New(t)
			client, ada := authority.Client(), authority.SignIn("ada")
			row.change(authority)
			found, err := client.ValidateSession(t.Context(), ada.AccessToken, ada.DeviceID, nil)
			if err != nil || found.Status != row.want {
				t.Errorf("got %+v, %v", found, err)
			}
			if found.RenewRecommended != (name == "aged") {
				t.Errorf("renew recommended: %v", found.RenewRecommended)
			}
		})
	}
}

func TestASessionEnds(t *testing.T) {
	authority := sessionauthoritytest.NewWith(t, sessionauthoritytest.Config{
		TokenTTL: 90 * 24 * time.Hour,
	})
	client := authority.Client()
	short := authority.SignInWith("ada",
		&sa.IssueDeviceOptions{IdleTimeout: 10 * time.Minute}, 0)
	long := authority.SignIn("ada")
	authority.PassTime(11 * time.Minute)
	if got := status(t, client, short); got != sa.StatusSessionExpired {
		t.Errorf("after its idle end it is %v", got)
	}
	if got := status(t, client, long); got != sa.StatusActive {
		t.Errorf("the other one is %v", got)
	}
	authority.PassTime(31 * 24 * time.Hour)
	if got := status(t, client, long); got == sa.StatusActive {
		t.Error("it lives on after its absolute end")
	}
}

func TestAReplaySignsTheUserOutAndSendsAnEvent(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	ada, phone := authority.SignIn("ada"), authority.SignIn("ada")
	events := make(chan sa.Event, 10)
	started := make(chan struct{})
	go func() {
		defer close(events)
		first := true
		for batch, err := range client.WatchEvents(t.Context(), nil) {
			if err != nil {
				return
			}
			if first {
				close(started)
				first = false
			}
			for _, event := range batch.Events {
				events <- event
				return
			}
		}
	}()
	<-started
	authority.ReplayTokens()
	found, err := client.ValidateSession(t.Context(), ada.AccessToken, ada.DeviceID, nil)
	if err != nil || found.Status != sa.StatusReplayed || found.RevokedDevices != 2 {
		t.Errorf("got %+v, %v", found, err)
	}
	if got := status(t, client, phone); got != sa.StatusNoSession {
		t.Errorf("the phone's token is %v", got)
	}
	event := <-events
	if event.Type != sa.EventSessionReplayed || event.UserID != "ada" ||
		event.DeviceID != ada.DeviceID || event.ReplayCause != sa.ReplayCauseSupersededToken {
		t.Errorf("got %+v", event)
	}
}

func TestSignInsAreRepeatedSafely(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	opts := &sa.IssueDeviceOptions{RequestID: "00000000-0000-4000-8000-000000000002"}
	first, err := client.IssueDevice(t.Context(), "ada", opts)
	if err != nil {
		t.Fatal(err)
	}
	second, err := client.IssueDevice(t.Context(), "ada", opts)
	if err != nil || second.AccessToken != first.AccessToken {
		t.Errorf("got %+v, %v", second, err)
	}
	if _, err := client.IssueDevice(t.Context(), "bob", opts); !errors.Is(
		err, sa.ErrRequestIDReused,
	) {
		t.Errorf("got %v", err)
	}
	authority.SignOut("ada")
	if _, err := client.IssueDevice(t.Context(), "ada", opts); !errors.Is(
		err, sa.ErrRequestIDSpent,
	) {
		t.Errorf("got %v", err)
	}
}

func TestCallsFailUntilTheTestRestoresTheFake(t *testing.T) {
	for name, row := range map[string]struct {
		begin func(*sessionauthoritytest.Authority) func()
		want  error
	}{
		"unavailable": {(*sessionauthoritytest.Authority).Unavailable, sa.ErrUnavailable},
		"refused": {func(a *sessionauthoritytest.Authority) func() {
			return a.Refuse(codes.PermissionDenied, "CALLER_NOT_ALLOWED")
		}, sa.ErrCallerNotAllowed},
		"too many devices": {func(a *sessionauthoritytest.Authority) func() {
			return a.LimitDevices(1)
		}, sa.ErrDeviceLimitReached},
		"replicas that confirm nothing": {func(a *sessionauthoritytest.Authority) func() {
			return a.Replicas(false)
		}, sa.ErrNotReplicated},
		"stopped": {func(a *sessionauthoritytest.Authority) func() {
			a.Stop()
			return a.Start
		}, sa.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			authority := sessionauthoritytest.New(t)
			authority.SignIn("ada")
			client := authority.Client()
			opts := &sa.IssueDeviceOptions{RequireReplicated: row.want == sa.ErrNotReplicated}
			restore := row.begin(authority)
			if _, err := client.IssueDevice(t.Context(), "ada", opts); !errors.Is(err, row.want) {
				t.Errorf("got %v", err)
			}
			restore()
			for {
				if _, err := client.IssueDevice(t.Context(), "ada", nil); err == nil {
					break
				} else if !errors.Is(err, sa.ErrUnavailable) {
					t.Fatalf("afterwards: %v", err)
				}
			}
		})
	}
}

func TestCallsOfASlowFakeTimeOut(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	defer authority.Slow(time.Hour)()
	client := authority.Client(sa.WithTimeout(50 * time.Millisecond))
	if _, err := client.SigningKeys(t.Context()); !errors.Is(err, sa.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestTheListOfDevices(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	old := authority.SignInWith("ada", nil, 48*time.Hour)
	authority.PassTime(time.Minute)
	current := authority.SignIn("ada")
	if _, err := client.UpdateDevice(
		t.Context(), "ada", old.DeviceID, " Ada's\tphone ", nil,
	); err != nil {
		t.Fatal(err)
	}
	var names []string
	opts := &sa.ListDevicesOptions{CurrentDeviceID: current.DeviceID, PageSize: 1}
	for device, err := range client.Devices(t.Context(), "ada", opts) {
		if err != nil {
			t.Fatal(err)
		}
		if device.Current != (device.DeviceID == current.DeviceID) || !device.SignedIn {
			t.Errorf("got %+v", device)
		}
		names = append(names, device.DisplayName)
	}
	if !slices.Equal(names, []string{"Unknown device", "Ada's phone"}) {
		t.Errorf("the list is %q", names)
	}
	none := "00000000-0000-4000-8000-000000000001"
	if _, err := client.UpdateDevice(t.Context(), "ada", none, "x", nil); !errors.Is(
		err, sa.ErrDeviceNotFound,
	) {
		t.Errorf("got %v", err)
	}
}

func TestRequestsThatBreakRules(t *testing.T) {
	client := sessionauthoritytest.New(t).Client()
	for field, call := range map[string]func() error{
		"user_id": func() error {
			_, err := client.RevokeAll(t.Context(), " ", nil)
			return err
		},
		"device_id": func() error {
			_, err := client.RevokeDevice(t.Context(), "ada", "nonsense", nil)
			return err
		},
		"claims.sub": func() error {
			_, err := client.IssueDevice(t.Context(), "ada",
				&sa.IssueDeviceOptions{Claims: map[string]string{"sub": "eve"}})
			return err
		},
		"auth_methods[0]": func() error {
			_, err := client.IssueDevice(t.Context(), "ada",
				&sa.IssueDeviceOptions{AuthMethods: []string{""}})
			return err
		},
		"idle_timeout": func() error {
			_, err := client.IssueDevice(t.Context(), "ada",
				&sa.IssueDeviceOptions{IdleTimeout: time.Second})
			return err
		},
		"requests": func() error {
			_, err := client.ValidateSessions(t.Context(), nil, nil)
			return err
		},
		"require_replicated": func() error {
			_, err := client.RevokeAll(t.Context(), "ada",
				&sa.RevokeAllOptions{RequireReplicated: true})
			return err
		},
	} {
		var failed *sa.Error
		err := call()
		if !errors.Is(err, sa.ErrInvalidRequest) || !errors.As(err, &failed) ||
			len(failed.Violations) == 0 || failed.Violations[0].Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestClaimsChange(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	ada := authority.SignIn("ada")
	claims := map[string]string{"email": "ada@example.org"}
	updated, err := client.UpdateSession(t.Context(), "ada", claims, nil)
	if err != nil || updated != 1 {
		t.Fatalf("got %d, %v", updated, err)
	}
	found, err := client.ValidateSession(t.Context(), ada.AccessToken, ada.DeviceID, nil)
	if err != nil || !found.RenewRecommended || found.Session.Claims.Len() != 0 {
		t.Fatalf("got %+v, %v", found, err)
	}
	renewal, err := client.RenewSession(t.Context(), ada.AccessToken, ada.DeviceID, nil)
	if err != nil || renewal.Session.Claims.Get("email") != "ada@example.org" {
		t.Errorf("got %+v, %v", renewal, err)
	}
	if authority.Rotations() != 0 || authority.Calls()["RenewSession"] != 1 {
		t.Errorf("%d rotations, calls %v", authority.Rotations(), authority.Calls())
	}
}

func TestOpenSessionsAreChecked(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	ada := authority.SignIn("ada")
	found, err := client.ValidateSession(t.Context(), ada.AccessToken, ada.DeviceID, nil)
	if err != nil {
		t.Fatal(err)
	}
	name, other, nonsense := found.Session.Name(), found.Session.Name(), sa.SessionName{}
	other.SessionID = "00000000000000000000000000000000"
	check := func() (states []string) {
		results, err := client.CheckSessions(t.Context(),
			[]sa.SessionName{name, other, nonsense}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range results {
			if result.Err != nil {
				states = append(states, result.Err.Error()[:len("session authority: invalid")])
			} else {
				states = append(states, result.State.Status.String())
			}
		}
		return states
	}
	want := []string{"ACTIVE", "SESSION_ENDED", "session authority: invalid"}
	if got := check(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	authority.SignOut("ada")
	want[0], want[1] = "NO_SESSION", "NO_SESSION"
	if got := check(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestWatchesGoOnFromACursor(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	authority.SignIn("ada")
	var cursor string
	for batch, err := range client.WatchEvents(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		cursor = batch.Cursor
		break
	}
	authority.SignOut("ada")
	authority.SignIn("bob")
	opts := &sa.WatchEventsOptions{Cursor: cursor, UserIDs: []string{"bob"}}
	for batch, err := range client.WatchEvents(t.Context(), opts) {
		if err != nil {
			t.Fatal(err)
		}
		if len(batch.Events) > 0 {
			if got := batch.Events[0]; got.UserID != "bob" || got.Type != sa.EventDeviceSignedIn {
				t.Errorf("got %+v", got)
			}
			break
		}
	}
	authority.Reset()
	for _, err := range client.WatchEvents(t.Context(), opts) {
		if !errors.Is(err, sa.ErrCursorExpired) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheCacheOfAClientFollowsTheFake(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client(sa.WithCache(sa.CacheConfig{}))
	ada := authority.SignIn("ada")
	for client.CacheStats().Hits == 0 {
		if got := status(t, client, ada); got != sa.StatusActive {
			t.Fatalf("it is %v", got)
		}
	}
	authority.SignOut("ada")
	for status(t, client, ada) == sa.StatusActive { // until the client has received the event
	}
}

func TestTheHeadersOfAnApp(t *testing.T) {
	header := sessionauthoritytest.SignedIn{AccessToken: "a", DeviceID: "d"}.Header()
	if header.Get("authorization") != "Bearer a" || header.Get("x-device-id") != "d" {
		t.Errorf("got %v", header)
	}
}

func TestManyGoroutinesStopAndStartTheFake(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	ada := authority.SignIn("ada")
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 20 {
				authority.Stop()
				authority.Start()
				authority.Start()
			}
		})
	}
	work.Wait()
	found, err := client.ValidateSession(t.Context(), ada.AccessToken, ada.DeviceID, nil)
	if err != nil || !found.Active {
		t.Errorf("after all: %v, %v", found.Status, err)
	}
	authority.Stop()
	found, err = client.ValidateSession(t.Context(), ada.AccessToken, ada.DeviceID, nil)
	if !errors.Is(err, sa.ErrUnavailable) {
		t.Errorf("stopped: %v, %v", found.Status, err)
	}
}

func TestTimePassesWhileWatchesBegin(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	watched, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		for watched.Err() == nil {
			authority.PassTime(time.Millisecond)
		}
	})
	work.Go(func() {
		defer stop()
		for range 50 {
			for batch, err := range client.WatchEvents(t.Context(), nil) {
				if err != nil || batch.ReadTime.IsZero() {
					t.Errorf("got %v, %v", batch, err)
				}
				break
			}
		}
	})
	work.Wait()
}
