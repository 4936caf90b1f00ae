package requests

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

const (
	// maxPathBytes is the maximum length of a path that LocalPath accepts. Paths of apps are
	// shorter, and servers accept URLs of about 8,000 characters.
	maxPathBytes = 2000
	// maxDecodings is how often LocalPath tries to decode a path. Apps encode paths less often.
	maxDecodings   = 4
	maxQueryFields = 100
	nextField      = "next"
)

// readAs replaces the characters that a server reads as a slash, a backslash or dots if the server
// normalises Unicode (NFKC). The list has all characters of Unicode with a normal form that has a
// slash or a backslash, or consists of dots.
var readAs = strings.NewReplacer(
	"\u2024", ".", "\u2025", "..", "\u2026", "...", "\uFE19", "...", "\uFE30", "..",
	"\uFE52", ".", "\uFF0E", ".",
	"\u2100", "a/c", "\u2101", "a/s", "\u2105", "c/o", "\u2106", "c/u", "\uFF0F", "/",
	"\uFE68", `\`, "\uFF3C", `\`,
)

// LocalPath returns text if text is a path of this origin, with or without a query. LocalPath
// returns fallback for a text that is not a path of this origin. LocalPath refuses each text that a
// browser, or a server in front of the app, could read as a URL of another origin. Browsers read a
// backslash as a slash. Servers may decode a path, remove dot segments, normalise Unicode, and then
// redirect the browser to the result.
func LocalPath(text, fallback string) string {
	if isLocal(text) {
		return text
	}
	return fallback
}

// NextIn returns the field "next" in the query of a target if the field is a path of this origin.
// NextIn returns fallback if the query has no "next", or if "next" is not a path of this origin. It
// also returns fallback if two fields "next" have different values.
func NextIn(target, fallback string) string {
	fields, known := Fields(Query(target), maxQueryFields, false)
	if !known {
		return fallback
	}
	next := ""
	for _, field := range fields {
		if field.Name != nextField {
			continue
		}
		if next != "" && next != field.Value {
			return fallback
		}
		next = field.Value
	}
	return LocalPath(next, fallback)
}

// WithNext returns url, the URL of a sign-in page, with path added to its query as the field
// "next". WithNext returns url unchanged if url already has a "next", if path is empty, or if path
// leads to the sign-in page itself. If url has another origin, WithNext returns url unchanged,
// because that origin would take path for a path of its own.
func WithNext(url, path string) string {
	page, query, isElsewhere := splitURL(url)
	if path == "" || isElsewhere {
		return url
	}
	fields, _ := Fields(query, len(query)+1, true)
	for _, field := range fields {
		if field.Name == nextField {
			return url
		}
	}
	if wanted, _, _ := strings.Cut(path, "?"); wanted == page {
		return url
	}
	return WithQuery(url, nextField+"="+Quote(path, "/"))
}

// WithQuery returns url with fields added to its query. fields is encoded text such as "a=1&b=2".
func WithQuery(url, fields string) string {
	page, fragment, hasFragment := strings.Cut(url, "#")
	joint := "?"
	if strings.Contains(page, "?") {
		joint = "&"
	}
	if hasFragment {
		fragment = "#" + fragment
	}
	return page + joint + fields + fragment
}

var schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// splitURL returns the path and the query of a URL. isElsewhere is true if the URL has a scheme or
// a host.
func splitURL(url string) (path, query string, isElsewhere bool) {
	isElsewhere = schemeForm.MatchString(url) || strings.HasPrefix(url, "//") ||
		strings.HasPrefix(url, `/\`)
	page, _, _ := strings.Cut(url, "#")
	path, query, _ = strings.Cut(page, "?")
	return path, query, isElsewhere
}

func isLocal(text string) bool {
	if len(text) > maxPathBytes || !strings.HasPrefix(text, "/") {
		return false
	}
	for index := 0; index < len(text); index++ {
		if text[index] < '!' || text[index] > '~' || text[index] == '\\' {
			return false
		}
	}
	path := text
	if end := strings.IndexAny(text, "?#"); end >= 0 {
		path = text[:end]
	}
	for range maxDecodings {
		if !staysHere(path) {
			return false
		}
		decoded := Unquote(path)
		if decoded == path {
			return true
		}
		path = decoded
	}
	return false
}

// staysHere reports whether path stays on this origin, as browsers and servers read path. staysHere
// does not decode path.
func staysHere(path string) bool {
	normal := readAs.Replace(path)
	if strings.HasPrefix(normal, "//") || strings.Contains(normal, `\`) {
		return false
	}
	for _, letter := range normal {
		if unicode.In(letter, unicode.Cc, unicode.Zl, unicode.Zp) {
			return false
		}
	}
	var kept []string
	for _, segment := range strings.Split(normal, "/")[1:] {
		switch segment {
		case ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, segment)
		}
	}
	// If the first segment is empty and another segment follows, a browser reads the path as
	// "//host".
	return len(kept) < 2 || kept[0] != ""
}

var namedForm = regexp.MustCompile(`^/(?:[^/\\?#*][^?#*]*)?\*?$`)

// CheckNamedPaths returns an error if a setting has a malformed path. "/callback" stands for a
// single path, and "/mail/*" for all paths that begin with "/mail/".
func CheckNamedPaths(paths []string) error {
	for _, path := range paths {
		if !namedForm.MatchString(path) {
			return fmt.Errorf(`must have paths like "/callback", or starts of paths like "/mail/*",`+
				` not %q`, path)
		}
	}
	return nil
}

// IsNamed reports whether the path of a target is one of the paths, or begins like a path with "*"
// at its end. The query of the target does not count.
func IsNamed(target string, paths []string) bool {
	if len(paths) == 0 {
		return false
	}
	path := Path(target)
	for _, named := range paths {
		start, isStart := strings.CutSuffix(named, "*")
		if path == named || (isStart && strings.HasPrefix(path, start)) {
			return true
		}
	}
	return false
}
