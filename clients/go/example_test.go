package sessionauthority_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"testing"
	"time"

	sa "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/sessionauthoritytest"
)

// answer returns the HTTP status for a request, and the token that the browser or app should have
// from now on.
func answer(
	ctx context.Context, authority *sa.Client, token, deviceID string,
) (status int, newToken string) {
	found, err := authority.ValidateSession(ctx, token, deviceID, nil)
	if err != nil {
		return http.StatusServiceUnavailable, token // the session may be good: never 401
	}
	if found.RenewRecommended || found.Status == sa.StatusTokenExpired {
		renewal, err := authority.RenewSession(ctx, token, deviceID, nil)
		switch {
		case err != nil:
			return http.StatusServiceUnavailable, token
		case !renewal.Active():
			return http.StatusUnauthorized, ""
		case renewal.Rotated:
			return http.StatusOK, renewal.AccessToken
		default:
			return http.StatusOK, token
		}
	}
	if !found.Active {
		return http.StatusUnauthorized, ""
	}
	return http.StatusOK, token
}

func TestAnswersOfTheReadme(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	client := authority.Client()
	ada := authority.SignIn("ada")
	for name, row := range map[string]struct {
		begin  func() func()
		token  string
		status int
		keeps  bool
	}{
		"signed in": {nil, ada.AccessToken, http.StatusOK, true},
		"no token":  {nil, "", http.StatusUnauthorized, false},
		"away":      {authority.Unavailable, ada.AccessToken, http.StatusServiceUnavailable, true},
	} {
		restore := func() {}
		if row.begin != nil {
			restore = row.begin()
		}
		status, token := answer(t.Context(), client, row.token, ada.DeviceID)
		if status != row.status || (token == row.token && token != "") != row.keeps {
			t.Errorf("%s: got %d, %q", name, status, token)
		}
		restore()
	}
	authority.ExpireTokens()
	if status, token := answer(t.Context(), client, ada.AccessToken, ada.DeviceID); status != 200 ||
		token == "" || token == ada.AccessToken {
		t.Errorf("an expired token: got %d, %q", status, token)
	}
	authority.SignOut("ada")
	if status, _ := answer(t.Context(), client, ada.AccessToken, ada.DeviceID); status != 401 {
		t.Errorf("signed out: got %d", status)
	}
}

// A user signs in, sees their devices, and signs out everywhere.
func Example() {
	ctx := context.Background()
	authority, err := sa.NewClient("127.0.0.1:50051")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = authority.Close() }()

	issued, err := authority.IssueDevice(ctx, "ada", &sa.IssueDeviceOptions{
		DeviceID:    "", // what the browser sent; if it is no device ID, the service makes one
		Client:      sa.ClientInfo{IPAddress: "203.0.113.7", UserAgent: "Mozilla/5.0 Firefox/140.0"},
		AuthMethods: []string{"pwd"},
	})
	if err != nil {
		log.Fatal(err)
	}
	// The token and the device ID go to the browser or app. Every later request has them.
	token, deviceID := issued.AccessToken, issued.Device.DeviceID

	status, token := answer(ctx, authority, token, deviceID)
	fmt.Println(status)

	for device, err := range authority.Devices(ctx, "ada", nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(device.DisplayName, device.LastSeenTime)
	}
	_, err = authority.RevokeAll(ctx, "ada", &sa.RevokeAllOptions{Reason: "user_request"})
	if err != nil {
		log.Fatal(err)
	}
	status, _ = answer(ctx, authority, token, deviceID)
	fmt.Println(status)
}

// A watch yields the events of sessions. The loop starts another watch after the service was away.
func ExampleClient_WatchEvents() {
	ctx := context.Background()
	authority, err := sa.NewClient("127.0.0.1:50051")
	if err != nil {
		log.Fatal(err)
	}
	cursor := ""
	for ctx.Err() == nil {
		opts := &sa.WatchEventsOptions{
			Cursor: cursor, Types: []sa.EventType{sa.EventSessionReplayed},
		}
		for batch, err := range authority.WatchEvents(ctx, opts) {
			if errors.Is(err, sa.ErrCursorExpired) {
				cursor = "" // events were missed
			}
			if err != nil {
				log.Print(err)
				break
			}
			for _, event := range batch.Events {
				fmt.Printf("tell %s that a token of %s was copied\n",
					event.UserID, event.DeviceDisplayName)
			}
			cursor = batch.Cursor // keep it once the events are dealt with
		}
		time.Sleep(time.Second) // a watch ends at once while the service is away
	}
}

// With a near cache, most validations are answered in this process, in less than a microsecond.
func ExampleWithCache() {
	authority, err := sa.NewClient("127.0.0.1:50051", sa.WithCache(sa.CacheConfig{}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(authority.CacheStats().Hits)
}

// The sentinels show how to react to an error.
func ExampleError() {
	authority, err := sa.NewClient("127.0.0.1:50051")
	if err != nil {
		log.Fatal(err)
	}
	_, err = authority.UpdateDevice(context.Background(), "ada", "nonsense", "Ada's phone", nil)
	var failed *sa.Error
	switch {
	case errors.Is(err, sa.ErrUnavailable):
		fmt.Println("answer 503")
	case errors.Is(err, sa.ErrDeviceNotFound):
		fmt.Println("answer 404")
	case errors.As(err, &failed):
		fmt.Println(failed.Violations)
	}
}
