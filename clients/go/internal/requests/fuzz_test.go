package requests_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

func FuzzLocalPath(f *testing.F) {
	for _, seed := range []string{
		"/", "/a?b=c#d", "//evil.example", `/\evil.example`, "/%2F/evil.example", "/%252Fx", "/..//x",
		"/%09/x", "/%EF%BC%8F%EF%BC%8Fx", "/\u2025/", "https://evil.example", "/%5Cx", "",
		"/a/../..//x", "/%E3%80%82",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := requests.LocalPath(text, "")
		if path == "" {
			return
		}
		here, _ := url.Parse("https://app.example/sign-in")
		// Package net/url refuses a "%" that begins no escape. Browsers leave it unchanged.
		there, err := here.Parse(strings.ReplaceAll(path, "%", "%25"))
		if err != nil || there.Host != "app.example" || there.Scheme != "https" {
			t.Errorf("%q leads to %v (%v)", path, there, err)
		}
		page, _, _ := strings.Cut(path, "?")
		page, _, _ = strings.Cut(page, "#")
		for _, servers := range []string{page, requests.Unquote(page)} {
			if strings.HasPrefix(servers, "//") || strings.ContainsAny(servers, "\\\r\n\t") {
				t.Errorf("%q is read as %q", path, servers)
			}
		}
	})
}

func FuzzNextIn(f *testing.F) {
	for _, seed := range []string{
		"/sign-in?next=/a", "?next=/a&next=/b", "?next=%2F%2Fx", "?&&=", "?%",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if next := requests.NextIn(target, "/"); requests.LocalPath(next, "") != next {
			t.Errorf("%q leads to %q", target, next)
		}
	})
}

func FuzzOrigin(f *testing.F) {
	for _, seed := range []string{
		"https://a.example", "HTTP://A:80", "null", "https://[2001:DB8:0::7]:443", "https://a:99999",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal, known := requests.NormalOrigin(text)
		if !known {
			return
		}
		if again, _ := requests.NormalOrigin(normal); again != normal {
			t.Errorf("%q becomes %q, which becomes %q", text, normal, again)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("10.0.0.1, 192.0.2.1:80, [2001:db8::1%eth0]:1", "https", `"Chrome";v="148", "a\"b"`,
		"text/html")
	f.Add("unknown,,", "http, https", `?1`, "text/html;q=0, */json;q=1")
	f.Add(strings.Repeat("1.1.1.1,", 200), "", `"`, ";;;,")
	proxies, err := requests.NewProxies([]string{"10.0.0.0/8", "2001:db8::/32", "unix"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, forwarded, proto, hint, accept string) {
		r := &requests.Request{
			Method: "GET", Peer: "10.0.0.1", Target: accept, Host: forwarded, Header: http.Header{
				"X-Forwarded-For": {forwarded}, "X-Forwarded-Proto": {proto}, "Accept": {accept},
				"Sec-Ch-Ua": {hint}, "Sec-Ch-Ua-Mobile": {hint}, "Sec-Ch-Ua-Model": {hint},
				"Origin": {proto}, "Upgrade": {hint},
			},
		}
		if text := proxies.Address(r); text != "" {
			address, err := netip.ParseAddr(text)
			if err != nil || address.String() != text || address.Zone() != "" {
				t.Errorf("%q gives %q", forwarded, text)
			}
		}
		proxies.IsSecure(r)
		requests.WantsPage(r)
		requests.IsForeign(r, nil)
		if hints := requests.ReadHints(r); hints != nil && len(hint) > 1024 && hints.Model != "" {
			t.Error("a header that is too long is read")
		}
	})
}

func FuzzDeviceID(f *testing.F) {
	for _, seed := range []string{
		"123e4567-e89b-42d3-a456-426614174000", "{123E4567-E89B-42D3-A456-426614174000}",
		"urn:uuid:123e4567-e89b-42d3-a456-426614174000", "00000000000000000000000000000000", " x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found := requests.DeviceID(text)
		if found != "" && (len(found) != 36 || requests.DeviceID(found) != found) {
			t.Errorf("%q gives %q", text, found)
		}
	})
}
