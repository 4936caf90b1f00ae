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
	return cachingHeaders[name] || strings.HasSuffix(strings.ToLower(name), "cache-control")
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
	isPersonal := v.session != nil && (v.looked || isPage)
	if handsOut || (isPersonal && !has) {
		header.Add(noStore.Name, noStore.Value)
	}
	if v.ended { // what the browser keeps of the pages goes, too
		header.Add("Clear-Site-Data", `"cache"`)
	}
}
