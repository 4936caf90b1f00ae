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
	// The service refuses a sign-in if a token of the session could have more than 4,000 bytes. So
	// no renewal makes a cookie too long.
	maxNameBytes = MaxCookieBytes - 4000 - len(hostPrefix)
	briefSuffix  = "-brief"
	blanks       = " \t"
)

// SameSite is the rule for sending the cookies with links of other sites.
type SameSite string

const (
	// SameSiteStrict means: never send them. It is the default.
	SameSiteStrict SameSite = "Strict"
	// SameSiteLax means: send them when the user follows a link to a page.
	SameSiteLax SameSite = "Lax"
)

// Cookies has the names of the two cookies of a browser, and the rules by which they are written.
// One cookie holds the access token, the other the device ID. They are always host-only, for all
// paths, and out of reach of scripts (RFC 6265bis, section 4.1.3.2: "__Host-").
//
// A session that ends with the browser has a third cookie, which marks the session: browsers don't
// say how long they keep a cookie, and a renewed token must be kept no longer than the token before
// it. The mark is the session's ID. A client can change the mark, which is harmless: the mark only
// says how long the client itself keeps a cookie. Only the service ends sessions.
type Cookies struct {
	// Token is the name of the cookie with the token, without a prefix. Empty means "session".
	Token string
	// Device is the name of the cookie with the device ID, without a prefix. Empty means "device".
	Device string
	// SameSite is the rule for both cookies. Empty means SameSiteStrict.
	SameSite SameSite
	// DeviceSameSite is the rule for the device ID. Empty means the same rule as SameSite.
	DeviceSameSite SameSite
	// Insecure is for developing on http://localhost, with a browser that does not treat localhost
	// as secure. If Insecure is false, all names of cookies begin with "__Host-". If it is true,
	// the middleware refuses requests of browsers to all hosts except localhost, its subdomains,
	// 127.0.0.1 and [::1].
	Insecure bool
}

// cookies are the checked rules, with full names.
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

// read returns the token, the device ID, and the ID of the session that ends with the browser. Each
// is empty if there is none. lines are the values of the Cookie headers.
func (c *cookies) read(lines []string) (token, device, brief string) {
	return c.only(lines, c.token), c.only(lines, c.device), c.only(lines, c.brief)
}

// only returns the value of the cookie with this name. If two cookies have the name and their
// values differ, one may come from an attacker. Nobody can know which one, so the value counts as
// missing.
//
// But if the cookies are insecure, the last value counts. Another app on localhost may have left
// cookies with the same name and other paths, which this package can't remove. Browsers send those
// cookies first (RFC 6265, section 5.4), as their paths are longer.
//
// Only blanks are trimmed. Browsers apply the rules of the prefix only to names that begin with the
// prefix. If other white space before a name were trimmed, a cookie that was set without these
// rules would count as one of our cookies.
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

// areKeptBack reports whether the browser may have strict cookies that it did not send. A browser
// sends all of them or none.
func (c *cookies) areKeptBack(token, device string) bool {
	isTokenStrict, isDeviceStrict := c.rule == SameSiteStrict, c.deviceRule == SameSiteStrict
	return (isTokenStrict || isDeviceStrict) &&
		(!isTokenStrict || token == "") && (!isDeviceStrict || device == "")
}

// isSetBy reports whether a Set-Cookie header sets one of our cookies.
func (c *cookies) isSetBy(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	name = strings.Trim(name, blanks)
	return name == c.token || name == c.device || name == c.brief
}

// handOut returns the Set-Cookie headers that give a browser its token and its device ID. end is
// the absolute end of the session. The token's cookie lasts until then, because an expired token
// can be renewed. Only the service knows the idle end, which moves with each use.
//
// brief is the ID of a session that ends with the browser, else empty. If brief is not empty, the
// token's cookie has no expiry time, and the mark is set, too. The browser keeps the cookie of the
// device ID in any case.
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

// takeBack returns the Set-Cookie headers that delete the token's cookie. If device is true, they
// also delete the device ID. If brief is true, they also delete the mark.
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

// line returns a Set-Cookie header. With a negative life the browser deletes the cookie when it is
// closed.
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
