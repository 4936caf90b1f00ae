package sessionhttp

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

func FuzzCookies(f *testing.F) {
	for _, seed := range [][2]string{
		{"__Host-session=abc; __Host-device=123e4567-e89b-42d3-a456-426614174000", ""},
		{"__Host-session=a; __Host-session=b", "__Host-session=a"},
		{" __Host-session\t=\tx ;;=;a", "\x00__Host-session=x"},
		{`__Host-session="abc"`, "__host-session=x"},
	} {
		f.Add(seed[0], seed[1])
	}
	jar, err := Cookies{}.checked()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		token, device, brief := jar.read([]string{first, second})
		for _, value := range []string{token, device, brief} {
			if strings.Contains(value, ";") || strings.Trim(value, blanks) != value {
				t.Errorf("%q is no value", value)
			}
		}
		now := time.Unix(1_800_000_000, 0)
		lines, err := jar.handOut(token, device, now.Add(time.Hour), now, brief)
		for _, line := range lines {
			if strings.Count(line, ";") > 5 || strings.ContainsAny(line, "\r\n\x00,") {
				t.Errorf("%q breaks out of its line", line)
			}
		}
		if err == nil && !isToken(token) && token != "" && !strings.Contains(token, "~") {
			t.Errorf("%q is written, though it is no token", token)
		}
	})
}

func FuzzPresented(f *testing.F) {
	f.Add("GET", "/a?b", "Bearer abc", "", "__Host-session=abc", "same-origin")
	f.Add("POST", "//x", "bearer  a b", "x", "", "cross-site")
	f.Add("", "", "Bearer", "123e4567-e89b-42d3-a456-426614174000", ";", "")
	flow, err := NewFlow(nobody{}, Settings{
		SignInURL: "/sign-in", Devices: &DevicesPage{}, ReturnPaths: []string{"/mail/*"},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, target, authorization, device, cookie, site string) {
		header := http.Header{
			"Authorization": {authorization}, "Cookie": {cookie}, "Sec-Fetch-Site": {site},
			"User-Agent": {cookie},
		}
		if device != "" {
			header["X-Device-Id"] = []string{device}
		}
		found, refused := flow.present(&Request{
			Method: method, Header: header, Host: "app.example", Peer: "192.0.2.1", Target: target,
		})
		if refused != nil {
			return
		}
		if (found.token == "") != (found.status != sessionauthority.StatusUnspecified) {
			t.Errorf("%+v", found)
		}
		flow.client(&found)
		location := flow.signInRequired(&found, found.status, false).Response.value("Location")
		if strings.ContainsAny(location, "\r\n \x00") {
			t.Errorf("%q", location)
		}
	})
}
