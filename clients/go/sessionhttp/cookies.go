package sessionhttp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxCookieBytes is the maximum length of a cookie's name and value together, in bytes.
	// Browsers drop longer cookies.
	MaxCookieBytes = 4096
	// MaxCookieAge is the longest time for which browsers keep a cookie.
	MaxCookieAge = 400 * 24 * time.Hour

	hostPrefix = "__Host-"
	// maxNameBytes is the maximum length of a cookie's name without the prefix, in bytes. A token
	// has at most 4,000 bytes, because the service refuses a sign-in if a token of its session
	// could be longer.
	maxNameBytes = MaxCookieBytes - 4000 - len(hostPrefix)
	briefSuffix  = "-brief"
	blanks       = " \t"
)

// SameSite decides if a browser sends a cookie when the user follows a link from another site.
type SameSite string

const (
	// SameSiteStrict means that the browser does not send the cookie when the user comes from
	// another site. SameSiteStrict is the default of Cookies.SameSite.
	SameSiteStrict SameSite = "Strict"
	// SameSiteLax means that the browser sends the cookie when the user follows a link from another
	// site to a page of this site.
	SameSiteLax SameSite = "Lax"
)

// Cookies has the names of the two cookies of a browser, and the rules for writing these cookies.
// One cookie holds the access token, and the other cookie holds the device ID. The cookies of this
// package are host-only (RFC 6265bis, section 4.1.3.2: "__Host-"), are sent to all paths, and can't
// be read by scripts.
//
// A session that ends when the browser is closed has a third cookie, which holds the session ID. At
// a renewal, the third cookie shows the middleware that the cookie of the new token must also end
// when the browser is closed. Browsers do not send how long they keep a cookie. A client can change
// the third cookie, which does no harm: the third cookie only decides how long the client itself
// keeps the token. Only the service ends sessions.
type Cookies struct {
	// Token is the name of the cookie with the token, without the prefix "__Host-". Empty means
	// "session".
	Token string
	// Device is the name of the cookie with the device ID, without the prefix "__Host-". Empty
	// means "device".
	Device string
	// SameSite is the rule for all cookies, unless DeviceSameSite sets another rule for the device
	// ID. Empty means SameSiteStrict.
	SameSite SameSite
	// DeviceSameSite is the rule for the cookie with the device ID. Empty means the rule of
	// SameSite.
	DeviceSameSite SameSite
	// Insecure is for development on http://localhost, with a browser that does not treat localhost
	// as secure. If Insecure is true, the cookies have no "__Host-" and no Secure. If Insecure is
	// true, the middleware also refuses requests of browsers to all hosts except localhost, its
	// subdomains, 127.0.0.1 and [::1].
	Insecure bool
}

// cookies has the values of Cookies after the check, with the prefix in each name.
type cookies struct {
	token, device, brief string
	rule, deviceRule     SameSite
	insecure             bool
}

func (c Cookies) checked() (cookies, error) {
	token, device := or(c.Token, "session"), or(c.Device, "device")
	for _, named := range [][2]string{{"Token", token}, {"Device", device}} {
		if err := checkCookieName(named[0], named[1]); err != nil {
			return cookies{}, err
		}
	}
	if device == token || device == token+briefSuffix {
		return cookies{}, errors.New("Cookies: Token and Device are two cookies")
	}
	rule := or(c.SameSite, SameSiteStrict)
	deviceRule := or(c.DeviceSameSite, rule)
	for _, given := range []struct {
		field string
		rule  SameSite
	}{{"SameSite", rule}, {"DeviceSameSite", deviceRule}} {
		if given.rule != SameSiteStrict && given.rule != SameSiteLax {
			return cookies{}, fmt.Errorf("Cookies: %s must be Strict or Lax, not %q", given.field,
				given.rule)
		}
	}
	prefix := hostPrefix
	if c.Insecure {
		prefix = ""
	}
	return cookies{
		token: prefix + token, device: prefix + device, brief: prefix + token + briefSuffix,
		rule: rule, deviceRule: deviceRule, insecure: c.Insecure,
	}, nil
}

func checkCookieName(field, name string) error {
	lower := strings.ToLower(name)
	isPrefixed := strings.HasPrefix(lower, "__host-") || strings.HasPrefix(lower, "__secure-")
	for index := 0; index < len(name); index++ {
		isPrefixed = isPrefixed || !isTokenByte(name[index])
	}
	if isPrefixed || name == "" {
		return fmt.Errorf("Cookies: %s must be a cookie's name, without a prefix", field)
	}
	if len(name) > maxNameBytes {
		return fmt.Errorf("Cookies: %s must have at most %d bytes", field, maxNameBytes)
	}
	return nil
}

func isAlphanumeric(letter byte) bool {
	return 'a' <= letter && letter <= 'z' || 'A' <= letter && letter <= 'Z' ||
		'0' <= letter && letter <= '9'
}

func isTokenByte(letter byte) bool {
	return isAlphanumeric(letter) || strings.IndexByte("!#$%&'*+.^_`|~-", letter) >= 0
}

func or[T comparable](given, fallback T) T {
	var none T
	if given == none {
		return fallback
	}
	return given
}

// read returns the values of the three cookies. brief is the session ID if the session ends when
// the browser is closed. A value is empty if its cookie is missing. lines are the values of the
// Cookie headers.
func (c *cookies) read(lines []string) (token, device, brief string) {
	return c.only(lines, c.token), c.only(lines, c.device), c.only(lines, c.brief)
}

// only returns the value of the cookie with this name. If two cookies have this name and different
// values, one of them may come from an attacker. Nothing shows which cookie that is, so the result
// is empty, as for a missing cookie.
//
// If Cookies.Insecure is true, the result is the last of the different values. Another app on
// localhost may have left cookies that have the same name and a longer path, and this package can't
// delete such cookies. Browsers send cookies with longer paths first (RFC 6265, section 5.4), so
// the cookie of this package comes last.
//
// Spaces and tabs around a name are trimmed, but no other white space. Browsers protect only
// cookies with a name that begins with "__Host-". If other white space before the name were
// trimmed, an unprotected cookie of an attacker could count as a cookie of this package.
func (c *cookies) only(lines []string, name string) string {
	value, isFound := "", false
	for _, line := range lines {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			key, text, isPair := strings.Cut(pair, "=")
			if !isPair || strings.Trim(key, blanks) != name {
				continue
			}
			text = strings.Trim(text, blanks)
			if isFound && text != value && !c.insecure {
				return ""
			}
			value, isFound = text, true
		}
	}
	return value
}

// areKeptBack reports whether the browser may have strict cookies that it did not send with this
// request. Browsers send either all strict cookies or none. token and device are the values of the
// cookies that the browser sent.
func (c *cookies) areKeptBack(token, device string) bool {
	isTokenStrict, isDeviceStrict := c.rule == SameSiteStrict, c.deviceRule == SameSiteStrict
	return (isTokenStrict || isDeviceStrict) &&
		(!isTokenStrict || token == "") && (!isDeviceStrict || device == "")
}

// isSetBy reports whether a Set-Cookie header has the name of one of the three cookies.
func (c *cookies) isSetBy(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	name = strings.Trim(name, blanks)
	return name == c.token || name == c.device || name == c.brief
}

// handOut returns the Set-Cookie headers that give a browser its token and its device ID. end is
// the absolute end of the session. The token's cookie lasts until end, but at most MaxCookieAge. It
// may last longer than the token, because an expired token can be renewed. The idle end of the
// session does not count: it moves with each use, and only the service knows it.
//
// brief is the session ID if the session ends when the browser is closed, and otherwise empty. If
// brief is not empty, the token's cookie has no expiry time, and a third cookie holds brief. The
// cookie of the device ID always has an expiry time.
func (c *cookies) handOut(
	token, device string, end, now time.Time, brief string,
) ([]string, error) {
	life := min(max(end.Sub(now), 0), MaxCookieAge)
	if brief != "" {
		life = -1
	}
	given := []struct {
		name, value string
		life        time.Duration
	}{{c.token, token, life}, {c.device, device, MaxCookieAge}, {c.brief, brief, -1}}
	if brief == "" {
		given = given[:2]
	}
	lines := make([]string, 0, len(given))
	for _, cookie := range given {
		if !isCookieValue(cookie.value) {
			return nil, fmt.Errorf("%s: can't be the value of a cookie", cookie.name)
		}
		if len(cookie.name)+len(cookie.value) > MaxCookieBytes {
			return nil, fmt.Errorf("%s: is longer than browsers keep; sign in with fewer claims",
				cookie.name)
		}
		lines = append(lines, c.line(cookie.name, cookie.value, cookie.life))
	}
	return lines, nil
}

// takeBack returns the Set-Cookie headers that delete the token's cookie. If device is true, the
// headers also delete the cookie with the device ID. If brief is true, the headers also delete the
// third cookie, which holds the ID of a session that ends when the browser is closed.
func (c *cookies) takeBack(device, brief bool) []string {
	lines := []string{c.line(c.token, "", 0)}
	if device {
		lines = append(lines, c.line(c.device, "", 0))
	}
	if brief {
		lines = append(lines, c.line(c.brief, "", 0))
	}
	return lines
}

// line returns the value of a Set-Cookie header. life is how long the browser keeps the cookie.
// Zero deletes the cookie. If life is negative, the browser keeps the cookie until the user closes
// the browser.
func (c *cookies) line(name, value string, life time.Duration) string {
	secure, lasting, rule := "Secure; ", "", c.rule
	if c.insecure {
		secure = ""
	}
	if life >= 0 {
		lasting = "Max-Age=" + strconv.FormatInt(int64(life/time.Second), 10) + "; "
	}
	if name == c.device {
		rule = c.deviceRule
	}
	return name + "=" + value + "; Path=/; " + lasting + secure + "HttpOnly; SameSite=" +
		string(rule)
}

func isCookieValue(value string) bool {
	for index := 0; index < len(value); index++ {
		if !isAlphanumeric(value[index]) && strings.IndexByte("._~-", value[index]) < 0 {
			return false
		}
	}
	return value != ""
}
