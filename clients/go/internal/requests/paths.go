package requests

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

const (
	// No page to which a user returns has a longer URL. Servers accept about 8,000 characters.
	maxPathBytes = 2000
	// No app has paths that are encoded more often than this.
	maxDecodings   = 4
	maxQueryFields = 100
	nextField      = "next"
)

// Servers that normalise Unicode (NFKC) read these characters as a slash, a backslash or dots. The
// list has all characters of Unicode whose normal form has a slash or a backslash, or consists of
// dots.
var readAs = strings.NewReplacer(
	"\u2024", ".", "\u2025", "..", "\u2026", "...", "\uFE19", "...", "\uFE30", "..",
	"\uFE52", ".", "\uFF0E", ".",
	"\u2100", "a/c", "\u2101", "a/s", "\u2105", "c/o", "\u2106", "c/u", "\uFF0F", "/",
	"\uFE68", `\`, "\uFF3C", `\`,
)

// LocalPath returns the text if it is a path of this origin, with or without a query, and otherwise
// the fallback. It refuses each spelling that a browser, or a server on the way, could read as
// another origin. Browsers read a backslash as a slash. Servers decode, remove dot segments,
// normalise Unicode, and may send the result as a redirect.
func LocalPath(text, fallback string) string {
	if isLocal(text) {
		return text
	}
	return fallback
}

// NextIn returns the path in the field "next" of a target's query, if it is a path of this origin,
// and otherwise the fallback. If there are two such fields with different values, neither counts.
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

// WithNext returns the URL of a sign-in page, with the path to return to. If the sign-in page is on
// another origin, it gets no path, because the path would then mean a page of that origin.
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

// WithQuery returns the URL with more fields in its query.
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

// splitURL returns the path and the query of a URL. isElsewhere is true if the URL names another
// origin.
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

// staysHere reports whether a path names no other origin, after the decodings so far.
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
	// If the first segment is empty and another segment follows, the path reads as "//host".
	return len(kept) < 2 || kept[0] != ""
}

var namedForm = regexp.MustCompile(`^/(?:[^/\\?#*][^?#*]*)?\*?$`)

// CheckNamedPaths checks the paths that an app names in a setting: single paths ("/callback"), or
// all paths with the same start ("/mail/*").
func CheckNamedPaths(paths []string) error {
	for _, path := range paths {
		if !namedForm.MatchString(path) {
			return fmt.Errorf(`must have paths like "/callback", or starts of paths like "/mail/*",`+
				` not %q`, path)
		}
	}
	return nil
}

// IsNamed reports whether the path of a target is one of the paths. The query does not count.
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
