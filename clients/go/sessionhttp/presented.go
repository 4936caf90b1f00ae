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

// presented has the facts of a request. The token and the device ID are empty if the request had
// none, or none in a valid form.
type presented struct {
	request *Request
	// status is set if the status of the token is known without a call of the service. Else it is
	// zero.
	status   sessionauthority.SessionStatus
	token    string
	deviceID string
	// app is true if an app sent the request. An app keeps its token and its device ID itself, and
	// its responses never have cookies.
	app bool
	// page is true if a browser wants a page.
	page bool
	// repeatable is true if the request may be sent again, because it changes nothing.
	repeatable bool
	// brief is the ID of the session if the session ends with the browser. Else brief is empty.
	brief string
	// passive is true if the page sent the request by itself, without the end user.
	passive bool
}

// present reads a request. It returns a refusal in three cases: a page of another origin sent the
// request, a browser sent the request to another host than localhost although cookies are insecure,
// or the browser must send the request again with its strict cookies.
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

// client returns the facts about the end user's browser or app.
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

// wayBack returns the target if a browser can return there after a sign-in, else an empty text.
func (p *presented) wayBack() string {
	if !p.repeatable {
		return ""
	}
	return requests.LocalPath(p.request.Target, "")
}

// acceptCH returns the Accept-CH header of the response, which asks a browser for client hints. It
// is empty for all responses except pages over HTTPS, because browsers use the header only there.
func (f *Flow) acceptCH(p *presented) string {
	if p.page && f.proxies.IsSecure(p.request) {
		return requests.AcceptCH
	}
	return ""
}

// bearerOf returns the token of "Authorization: Bearer TOKEN". If a request has two or more
// Authorization headers, of any scheme, none of them counts.
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

// isLocalHost reports whether browsers treat a host as this machine.
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
