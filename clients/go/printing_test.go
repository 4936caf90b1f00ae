package sessionauthority_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	sa "github.com/session-authority/session-authority/clients/go"
)

func TestNoTokenIsPrinted(t *testing.T) {
	const secret = "a-live-token"
	for _, holder := range []any{
		sa.IssuedDevice{AccessToken: secret, NewDevice: true},
		&sa.IssuedDevice{AccessToken: secret},
		sa.Renewal{AccessToken: secret, Rotated: true},
		&sa.Renewal{AccessToken: secret},
		sa.Presented{AccessToken: secret, DeviceID: testDevice},
		[]sa.Presented{{AccessToken: secret}},
	} {
		var text, object bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "holder", holder)
		slog.New(slog.NewJSONHandler(&object, nil)).Info("x", "holder", holder)
		printed := text.String() + fmt.Sprint(holder)
		if _, isList := holder.([]sa.Presented); !isList {
			printed += object.String() // slog does not call LogValue of the elements of a slice
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			printed += fmt.Sprintf(verb, holder)
		}
		if strings.Contains(printed, secret) || strings.Contains(printed, fmt.Sprintf("%x", secret)) {
			t.Errorf("%T: the token is in %s", holder, printed)
		}
	}
	printed := fmt.Sprintf("%+v", sa.Presented{AccessToken: secret, DeviceID: testDevice})
	if want := "{AccessToken:(hidden) DeviceID:" + testDevice + "}"; printed != want {
		t.Errorf("printed %s, not %s", printed, want)
	}
	if printed := fmt.Sprintf("%+v", sa.Presented{}); printed != "{AccessToken: DeviceID:}" {
		t.Errorf("without a token: printed %s", printed)
	}
}
