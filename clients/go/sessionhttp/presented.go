package sessionhttp

import (
	"strings"
	"unicode/utf8"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

const (
	// MaxTokenBytes is the longest text that can be a token.
	MaxTokenBytes     = 4096
	maxUserAgentBytes = 512
)

// presented is what a request brought. The token and the device ID are empty if there was none, or
// nothing that could be one.
type presented struct {
	request *Request
	// status is what the token is worth where nobody need be asked, else zero.
	status   sessionauthority.SessionStatus
	token    string
	deviceID string
	// app: it came from an app, which keeps its token and its device ID itself. Such a response
	// never has cookies.
	app bool
	// page: a browser wants something to show.
	page bool
	// repeatable: the request may be sent again, as it changes nothing.
	repeatable bool
	// brief is the ID of the session that ends with the browser, empty if none does.
	brief string
	// passive: the end user did nothing, a page asks by itself.
	passive bool
}

// present reads what a request brought. It returns a refusal if the request comes from a page of
// another origin, goes to a host that insecure cookies are not for, or is to be sent again.
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

// client is what is known of the end user's browser or app.
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

// wayBack returns the target if a browser can return there after a sign-in, else empty.
func (p *presented) wayBack() string {
	if !p.repeatable {
		return ""
	}
	return requests.LocalPath(p.request.Target, "")
}

// acceptCH returns the header that asks a browser for client hints, empty for none. Browsers heed
// it on pages over HTTPS alone.
func (f *Flow) acceptCH(p *presented) string {
	if p.page && f.proxies.IsSecure(p.request) {
		return requests.AcceptCH
	}
	return ""
}

// bearerOf returns the token of "Authorization: Bearer TOKEN". Of two lines neither counts.
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

// isLocalHost tells whether a host is one that browsers take for this machine.
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

// latin1 reads bytes as ISO-8859-1, as headers have them: each byte is a letter.
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
