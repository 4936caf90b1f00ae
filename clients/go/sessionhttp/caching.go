package sessionhttp

import (
	"net/http"
	"strings"
)

// vary lists the request headers on which a response depends, so that no cache gives one user's
// page to another client. X-Device-Id is the default of Settings.DeviceHeader. If the app sets
// Settings.DeviceHeader to another name, vary does not list that name.
const vary = "Cookie, Authorization, X-Device-Id"

// cachingHeaders are the caching headers with names that do not end in Cache-Control.
// isAboutCaching recognizes the other caching headers, such as CDN-Cache-Control (RFC 9213), by
// this ending.
var cachingHeaders = map[string]bool{
	"Surrogate-Control": true, "Edge-Control": true, "Expires": true, "X-Accel-Expires": true,
}

// isAboutCaching reports whether a header with this name tells caches what to keep, and for how
// long.
func isAboutCaching(name string) bool {
	const ending = "cache-control"
	end := len(name) - len(ending)
	return cachingHeaders[name] || (end >= 0 && strings.EqualFold(name[end:], ending))
}

// setCaching adds the headers that keep personal responses out of caches. A personal response must
// not stay in shared caches, in the browser's cache, or among the pages that the browser keeps for
// its Back button. If the response has a new token or sets cookies, setCaching also deletes the
// app's headers for caches. Some shared caches obey headers of their own, such as
// Surrogate-Control, rather than Cache-Control. kind is the content type of the response.
func (v *Visit) setCaching(header http.Header, kind string) {
	has := false
	handsOut := v.handsOut || len(v.lines) > 0
	for name := range header {
		if isAboutCaching(name) {
			has = true
			if handsOut { // no cache may keep a token or a cookie
				delete(header, name)
			}
		}
	}
	kind = strings.ToLower(kind)
	isPage := strings.HasPrefix(kind, "text/html") ||
		strings.HasPrefix(kind, "application/xhtml+xml")
	// The app's contents are also personal if a renewal finds that the session has ended, because
	// the app may have written the contents before the renewal.
	isPersonal := (v.session != nil || v.hadSession) && (v.looked || isPage)
	if handsOut || (isPersonal && !has) {
		header.Add(noStore.Name, noStore.Value)
	}
	if v.ended { // the browser must also delete the pages that it keeps
		header.Add("Clear-Site-Data", `"cache"`)
	}
}
