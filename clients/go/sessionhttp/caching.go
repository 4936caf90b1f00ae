package sessionhttp

import (
	"net/http"
	"strings"
)

// Vary is what a response depends on: no cache may give one user's page to another, or to nobody.
const vary = "Cookie, Authorization, X-Device-Id"

// Beside Cache-Control and what ends like that: CDN-Cache-Control (RFC 9213), and such.
var cachingHeaders = map[string]bool{
	"Surrogate-Control": true, "Edge-Control": true, "Expires": true, "X-Accel-Expires": true,
}

// isAboutCaching tells whether a cache decides by this header if it keeps a response, and for how
// long.
func isAboutCaching(name string) bool {
	const ending = "cache-control"
	end := len(name) - len(ending)
	return cachingHeaders[name] || (end >= 0 && strings.EqualFold(name[end:], ending))
}

// setCaching writes what a response says to caches: the browser's, with its pages for the way back,
// and shared ones in front of the app, which read headers of their own before Cache-Control. Kind
// is that of the contents.
func (v *Visit) setCaching(header http.Header, kind string) {
	has := false
	handsOut := v.handsOut || len(v.lines) > 0
	for name := range header {
		if isAboutCaching(name) {
			has = true
			if handsOut { // no cache may keep it, whatever the app says
				delete(header, name)
			}
		}
	}
	kind = strings.ToLower(kind)
	isPage := strings.HasPrefix(kind, "text/html") ||
		strings.HasPrefix(kind, "application/xhtml+xml")
	// A renewal that finds the session ended does not take back what the app has written.
	isPersonal := (v.session != nil || v.hadSession) && (v.looked || isPage)
	if handsOut || (isPersonal && !has) {
		header.Add(noStore.Name, noStore.Value)
	}
	if v.ended { // what the browser keeps of the pages goes, too
		header.Add("Clear-Site-Data", `"cache"`)
	}
}
