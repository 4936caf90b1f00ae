package requests

import (
	"regexp"
	"strings"
	"sync"
)

// AcceptCH is a value of the Accept-CH header. It lists the client hints that a page requests.
// Browsers send other client hints, such as Sec-CH-UA, without a request.
const AcceptCH = "Sec-CH-UA-Full-Version-List, Sec-CH-UA-Platform-Version, Sec-CH-UA-Model," +
	" Sec-CH-UA-Form-Factors"

const (
	// maxHintBytes is the maximum length of a hint's header. A browser's list of brands has about
	// 150 bytes.
	maxHintBytes = 1024
	// maxKeptHints is the maximum number of parsed hints in the cache. A small cache is enough,
	// because browsers of the same version send the same hints.
	maxKeptHints = 256
)

// Brand is one name of a browser, with the browser's version under this name.
type Brand struct{ Name, Version string }

// Hints are the User-Agent Client Hints of a request. A value that the browser did not send is
// empty, or nil for Mobile.
type Hints struct {
	Brands          []Brand
	Platform        string
	PlatformVersion string
	Model           string
	Mobile          *bool
	FormFactors     []string
}

var hintNames = [...]string{
	"Sec-Ch-Ua", "Sec-Ch-Ua-Full-Version-List", "Sec-Ch-Ua-Platform", "Sec-Ch-Ua-Platform-Version",
	"Sec-Ch-Ua-Model", "Sec-Ch-Ua-Mobile", "Sec-Ch-Ua-Form-Factors",
}

type hintLines [len(hintNames)]string

var (
	keptHints  = map[hintLines]*Hints{}
	hintsMutex sync.Mutex
)

// ReadHints returns the hints of a request, or nil if the request has no hints. It ignores a whole
// header that is malformed, as RFC 9651 (section 4.2) requires, or too long.
func ReadHints(r *Request) *Hints {
	var lines hintLines
	for index, name := range hintNames {
		lines[index] = strings.Join(r.Header[name], ", ")
	}
	if lines == (hintLines{}) {
		return nil
	}
	hintsMutex.Lock()
	found, isKept := keptHints[lines]
	hintsMutex.Unlock()
	if isKept {
		return found
	}
	found = parseHints(lines)
	hintsMutex.Lock()
	defer hintsMutex.Unlock()
	if len(keptHints) >= maxKeptHints {
		clear(keptHints)
	}
	keptHints[lines] = found
	return found
}

func parseHints(lines hintLines) *Hints {
	members := hintMembers(lines[1])
	if len(members) == 0 {
		members = hintMembers(lines[0])
	}
	var made Hints
	for _, member := range members {
		made.Brands = append(made.Brands, Brand{member.text, member.version})
	}
	made.Platform, made.PlatformVersion = onlyMember(lines[2]), onlyMember(lines[3])
	made.Model = onlyMember(lines[4])
	switch strings.Trim(lines[5], " ") {
	case "?1":
		yes := true
		made.Mobile = &yes
	case "?0":
		no := false
		made.Mobile = &no
	}
	for _, member := range hintMembers(lines[6]) {
		made.FormFactors = append(made.FormFactors, member.text)
	}
	isEmpty := len(made.Brands) == 0 && len(made.FormFactors) == 0 && made.Mobile == nil &&
		made.Platform == "" && made.PlatformVersion == "" && made.Model == ""
	if isEmpty {
		return nil
	}
	return &made
}

const (
	hintString = `"(?:[ !#-\[\]-~]|\\["\\])*"`
	hintNumber = `-?\d{1,15}(?:\.\d{1,3})?`
	hintToken  = "[A-Za-z*][\\w!#$%&'*+.^`|~:/-]*"
	hintOther  = `\?[01]|:[A-Za-z0-9+/=]*:|@-?\d{1,15}`
)

var (
	hintItem      = regexp.MustCompile(`^(?:(` + hintString + `)|` + hintOthers + `)`)
	hintParameter = regexp.MustCompile(
		`^; *([a-z*][a-z0-9_.*-]*)(?:=(` + hintString + `|` + hintOthers + `))?`)
	hintComma  = regexp.MustCompile(`^[ \t]*,[ \t]*`)
	hintEscape = regexp.MustCompile(`\\(["\\])`)
)

const hintOthers = hintNumber + `|` + hintToken + `|` + hintOther

type hintMember struct{ text, version string }

func onlyMember(line string) string {
	if found := hintMembers(line); len(found) == 1 {
		return found[0].text
	}
	return ""
}

// hintMembers returns the strings in a header that is a list (RFC 9651), each with its parameter
// "v". It returns nil if the list is malformed or too long.
func hintMembers(line string) []hintMember {
	rest := strings.Trim(line, " ")
	if len(rest) > maxHintBytes || rest == "" {
		return nil
	}
	var members []hintMember
	for {
		item := hintItem.FindStringSubmatch(rest)
		if item == nil {
			return nil
		}
		rest = rest[len(item[0]):]
		version := ""
		for {
			found := hintParameter.FindStringSubmatch(rest)
			if found == nil {
				break
			}
			if found[1] == "v" {
				version = hintText(found[2])
			}
			rest = rest[len(found[0]):]
		}
		if item[1] != "" {
			members = append(members, hintMember{hintText(item[1]), version})
		}
		if rest == "" {
			return members
		}
		comma := hintComma.FindString(rest)
		if comma == "" {
			return nil
		}
		rest = rest[len(comma):]
	}
}

func hintText(value string) string {
	if strings.HasPrefix(value, `"`) {
		return hintEscape.ReplaceAllString(value[1:len(value)-1], "$1")
	}
	return value
}
