package sessionhttp

import (
	"strings"
	"unicode/utf8"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

const (
	// MaxTokenBytes is the maximum length of a token, in bytes. A longer text counts as an invalid
	// token.
	MaxTokenBytes     = 4096
	maxUserAgentBytes = 512
)

// presented has the facts of a request. token is empty if the request had no token, or a malformed
// one. deviceID is empty if the request had no device ID, or a malformed one.
type presented struct {
	request *Request
	// status is StatusTokenMissing or StatusTokenInvalid if token is empty. If token is not empty,
	// status is StatusUnspecified, because only the service knows the status.
	status   sessionauthority.SessionStatus
	token    string
	deviceID string
	// app is true if the client is an app and no browser. An app stores its token and its device ID
	// itself, and gets no cookies.
	app bool
	// page is true if a browser requests a page to show, and not data for a script.
	page bool
	// repeatable is true if the client may send the request again, because its method is GET or
	// HEAD.
	repeatable bool
	// brief is the session ID if the session ends when the browser is closed. brief is empty if the
	// session does not end when the browser is closed, or if there is no session.
	brief string
	// passive is true if Settings.PassivePaths has the path of the request.
	passive bool
}

// present reads the facts of a request. If a page of another origin sent the request, present
// returns a *Refusal. If Cookies.Insecure is true, present refuses each request that a browser
// sends to a host other than localhost. If the browser must send the request again with its strict
// cookies, the *Refusal tells the browser to do so.
func (f *Flow) present(r *Request) (presented, *Refusal) {
	authorization, devices := r.Header["Authorization"], r.Header[f.settings.DeviceHeader]
	bearer, hasBearer := bearerOf(authorization)
	app := !f.settings.NoBearer && (hasBearer || len(devices) > 0)
	found := presented{
		request: r, app: app, page: !app && requests.WantsPage(r),
		repeatable: r.Method == "GET" || r.Method == "HEAD",
		passive:    requests.IsNamed(r.Target, f.settings.PassivePaths),
	}
	mounted := f.devices != nil && f.devices.serves(r.Target)
	checks := mounted || !f.settings.NoOriginCheck
	if checks && !app && requests.IsForeign(r, f.origins) {
		return found, f.crossOrigin(&found, mounted)
	}
	token, device := bearer, ""
	if app {
		if len(devices) == 1 {
			device = devices[0]
		}
	} else {
		if f.cookies.insecure && !isLocalHost(r.HostText()) {
			return found, f.insecureHost(&found)
		}
		token, device, found.brief = f.cookies.read(r.Header["Cookie"])
		isKeptBack := f.cookies.areKeptBack(token, device)
		if isKeptBack && requests.IsReturn(r, f.settings.ReturnPaths) {
			return found, &Refusal{Code: codeReturnHop, Response: returnHop(), kind: ErrReturnHop}
		}
	}
	switch {
	case token == "":
		found.status = sessionauthority.StatusTokenMissing
	case !isToken(token):
		found.status = sessionauthority.StatusTokenInvalid
	default:
		found.token = token
	}
	found.deviceID = requests.DeviceID(device)
	return found, nil
}

// client returns the facts about the end user's browser or app: its address, user agent and client
// hints.
func (f *Flow) client(p *presented) sessionauthority.ClientInfo {
	info := sessionauthority.ClientInfo{IPAddress: f.proxies.Address(p.request)}
	if lines := p.request.Header["User-Agent"]; len(lines) > 0 {
		info.UserAgent = latin1(lines[0][:min(len(lines[0]), maxUserAgentBytes)])
	}
	hints := requests.ReadHints(p.request)
	if hints == nil {
		return info
	}
	info.Hints = &sessionauthority.ClientHints{
		Platform: hints.Platform, PlatformVersion: hints.PlatformVersion, Model: hints.Model,
		Mobile: hints.Mobile, FormFactors: hints.FormFactors,
	}
	for _, brand := range hints.Brands {
		info.Hints.Brands = append(info.Hints.Brands,
			sessionauthority.ClientBrand{Name: brand.Name, Version: brand.Version})
	}
	return info
}

// wayBack returns the target of the request if a browser can request this target again after a
// sign-in. If the browser can't request the target again, wayBack returns an empty text.
func (p *presented) wayBack() string {
	if !p.repeatable {
		return ""
	}
	return requests.LocalPath(p.request.Target, "")
}

// acceptCH returns the value of the Accept-CH header, which asks a browser for client hints. The
// value is empty unless the response is for a page over HTTPS, because browsers use Accept-CH only
// in pages over HTTPS.
func (f *Flow) acceptCH(p *presented) string {
	if p.page && f.proxies.IsSecure(p.request) {
		return requests.AcceptCH
	}
	return ""
}

// bearerOf returns TOKEN if the header is "Authorization: Bearer TOKEN". lines are the values of
// all Authorization headers of the request. The second result is false if the request has no bearer
// token, or if the request has two or more Authorization headers.
func bearerOf(lines []string) (string, bool) {
	const scheme = "bearer"
	if len(lines) != 1 || len(lines[0]) < len(scheme) ||
		!strings.EqualFold(lines[0][:len(scheme)], scheme) {
		return "", false
	}
	rest := lines[0][len(scheme):]
	token := strings.Trim(rest, " ")
	if !strings.HasPrefix(rest, " ") || token == "" || strings.ContainsAny(token, " \t\n\r\f\v") {
		return "", false
	}
	return token, true
}

func isToken(text string) bool {
	for index := 0; index < len(text); index++ {
		letter := text[index]
		if !isAlphanumeric(letter) && letter != '.' && letter != '_' && letter != '-' {
			return false
		}
	}
	return len(text) <= MaxTokenBytes
}

// isLocalHost reports whether the value of a Host header is localhost, a subdomain of localhost,
// 127.0.0.1 or [::1], with or without a port.
func isLocalHost(host string) bool {
	host = strings.ToLower(host)
	if name, port, has := cutPort(host); has {
		if strings.Trim(port, "0123456789") != "" || port == "" {
			return false
		}
		host = name
	}
	if host == "localhost" || host == "127.0.0.1" || host == "[::1]" {
		return true
	}
	name, isBelow := strings.CutSuffix(host, ".localhost")
	for index := 0; index < len(name); index++ {
		letter := name[index]
		isBelow = isBelow && (isAlphanumeric(letter) || letter == '_' || letter == '-')
	}
	return isBelow && name != ""
}

func cutPort(host string) (name, port string, has bool) {
	end := strings.LastIndex(host, ":")
	if end < 0 || strings.HasSuffix(host, "]") {
		return host, "", false
	}
	return host[:end], host[end+1:], true
}

// latin1 decodes bytes as ISO-8859-1, the encoding of headers: each byte is one character.
func latin1(text string) string {
	isASCII := true
	for index := 0; index < len(text); index++ {
		isASCII = isASCII && text[index] < utf8.RuneSelf
	}
	if isASCII {
		return text
	}
	letters := make([]rune, len(text))
	for index := range letters {
		letters[index] = rune(text[index])
	}
	return string(letters)
}
