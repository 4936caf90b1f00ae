package requests

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	// scriptHeaders are headers of requests that come from scripts. Scripts that fetch parts of
	// pages also accept HTML, so the Accept header does not distinguish scripts from browsers that
	// go to a page.
	scriptHeaders = []string{
		"X-Requested-With", "Hx-Request", "X-Turbo-Request-Id", "X-Pjax", "X-Up-Version",
	}
	jsonKind    = regexp.MustCompile(`^[a-z]+/(?:[a-z0-9.!#$&^_-]+\+)?json$`)
	qualityForm = regexp.MustCompile(`^q *= *([0-9]*\.?[0-9]+)$`)
)

// WantsPage reports whether a browser goes to a page with this request. If a browser goes to a
// page, the middleware shows errors as pages. A client that does not go to a page gets errors as
// JSON.
//
// All browsers of today say in Sec-Fetch-Mode whether they go to a page, but only over HTTPS and at
// localhost. If this header is missing, a GET or HEAD request wants a page only if its Accept
// header prefers text/html to JSON. Most programs accept "*/*" or JSON, or send no Accept header.
func WantsPage(r *Request) bool {
	if modes := r.Header["Sec-Fetch-Mode"]; len(modes) > 0 {
		for _, mode := range modes {
			if mode == "navigate" {
				return true
			}
		}
		return false
	}
	if r.Method != "GET" && r.Method != "HEAD" {
		return false
	}
	accept := r.Header["Accept"]
	if len(accept) == 0 {
		return false
	}
	for _, name := range scriptHeaders {
		if _, has := r.Header[name]; has {
			return false
		}
	}
	var html, json float64
	for _, member := range strings.Split(strings.ToLower(strings.Join(accept, ",")), ",") {
		parts := strings.Split(member, ";")
		kind := strings.Trim(parts[0], " \t")
		switch {
		case kind == "text/html":
			html = max(html, quality(parts[1:]))
		case jsonKind.MatchString(kind):
			json = max(json, quality(parts[1:]))
		}
	}
	return html > json
}

// quality returns the quality value of a type in Accept (RFC 9110, section 12.4.2).
func quality(parameters []string) float64 {
	for _, parameter := range parameters {
		found := qualityForm.FindStringSubmatch(strings.Trim(parameter, " \t"))
		if found != nil {
			value, _ := strconv.ParseFloat(found[1], 64)
			return value
		}
	}
	return 1
}

// IsReturn reports whether another site sent the browser to one of the paths. The request of a
// frame does not count: if another site shows this page in a frame, the frame must not get the
// strict cookies.
func IsReturn(r *Request, paths []string) bool {
	return r.Method == "GET" && len(paths) > 0 &&
		isOnly(r.Header["Sec-Fetch-Site"], "cross-site") &&
		isOnly(r.Header["Sec-Fetch-Mode"], "navigate") &&
		isOnly(r.Header["Sec-Fetch-Dest"], "document") &&
		IsNamed(r.Target, paths)
}

func isOnly(lines []string, value string) bool {
	return len(lines) == 1 && lines[0] == value
}
