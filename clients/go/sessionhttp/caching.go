package sessionhttp

import (
	"net/http"
	"strings"
)

// vary names the headers on which a response depends. No cache may give one user's page to another
// client. X-Device-Id is the default of Settings.DeviceHeader. If the app sets another header, that
// header is not in this list.
const vary = "Cookie, Authorization, X-Device-Id"

// cachingHeaders are the headers about caching whose names do not end in Cache-Control.
// isAboutCaching finds the others by that ending, such as CDN-Cache-Control (RFC 9213).
var cachingHeaders = map[string]bool{
	"Surrogate-Control": true, "Edge-Control": true, "Expires": true, "X-Accel-Expires": true,
}

// isAboutCaching reports whether a header with this name controls caches: what they keep, and for
// how long.
func isAboutCaching(name string) bool {
	const ending = "cache-control"
	end := len(name) - len(ending)
	return cachingHeaders[name] || (end >= 0 && strings.EqualFold(name[end:], ending))
}

// setCaching sets the headers of a response for caches. One of these caches is the browser's own,
// which also keeps the pages that the Back button shows. Shared caches in front of the app prefer
// headers of their own to Cache-Control. kind is the content type of the response.
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
	// If a renewal finds that the session has ended, the app's contents are still personal: the app
	// may have written them for the session that it saw.
	isPersonal := (v.session != nil || v.hadSession) && (v.looked || isPage)
	if handsOut || (isPersonal && !has) {
		header.Add(noStore.Name, noStore.Value)
	}
	if v.ended { // the browser must drop the pages that it keeps, too
		header.Add("Clear-Site-Data", `"cache"`)
	}
}
