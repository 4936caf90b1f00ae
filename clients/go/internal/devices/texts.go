package devices

import (
	"embed"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	defaultLanguage = "en"
	maxRanges       = 20
	// All shorter forms of a language tag are looked up. No language of an app has more parts than
	// this.
	maxSubtags = 8
)

//go:embed messages/*.json
var messageFiles embed.FS

var (
	languages = []string{"ar", "de", "en", "es", "fr", "tr"}
	// The languages above that are written from right to left.
	rightToLeft = map[string]bool{"ar": true}

	tagForm     = regexp.MustCompile(`^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*$`)
	qualityForm = regexp.MustCompile(`^q *= *([01](?:\.[0-9]{0,3})?)$`)
)

// Texts are all texts in one language. A text that depends on a count is an object with a text for
// each plural category.
type Texts struct {
	Language  string         `json:"language"`
	Direction string         `json:"direction"`
	Messages  map[string]any `json:"messages"`
}

// Text returns the text of a key.
func (t *Texts) Text(key string) string {
	text, _ := t.Messages[key].(string)
	return text
}

var shipped = sync.OnceValue(func() map[string]*Texts {
	read := func(language string) map[string]any {
		data, err := messageFiles.ReadFile("messages/" + language + ".json")
		var messages map[string]any
		if err == nil {
			err = json.Unmarshal(data, &messages)
		}
		if err != nil {
			panic(err) // the files are part of the program
		}
		return messages
	}
	english := read(defaultLanguage)
	all := map[string]*Texts{}
	for _, language := range languages {
		made := &Texts{Language: language, Direction: "ltr", Messages: map[string]any{}}
		if rightToLeft[language] {
			made.Direction = "rtl"
		}
		for key, text := range english {
			made.Messages[key] = text
		}
		for key, text := range read(language) {
			made.Messages[key] = text
		}
		all[language] = made
	}
	return all
})

// TextsFor returns the texts in the first wanted language that has texts, and otherwise in English.
// The texts of "de" also serve "de-AT".
func TextsFor(wanted []string) *Texts {
	for _, tag := range wanted {
		parts := strings.Split(strings.ToLower(tag), "-")
		parts = parts[:min(len(parts), maxSubtags)]
		for length := len(parts); length > 0; length-- {
			if found := shipped()[strings.Join(parts[:length], "-")]; found != nil {
				return found
			}
		}
	}
	return shipped()[defaultLanguage]
}

// Accepted returns the languages in the lines of Accept-Language, the most wanted first.
func Accepted(lines []string) []string {
	type ranked struct {
		quality float64
		tag     string
	}
	var found []ranked
	members := strings.Split(strings.Join(lines, ","), ",")
	for _, member := range members[:min(len(members), maxRanges)] {
		parts := strings.Split(member, ";")
		tag, quality := strings.Trim(parts[0], " \t"), 1.0
		for _, parameter := range parts[1:] {
			match := qualityForm.FindStringSubmatch(strings.Trim(parameter, " \t"))
			if match != nil {
				quality, _ = strconv.ParseFloat(match[1], 64)
				break
			}
		}
		if tagForm.MatchString(tag) && quality > 0 {
			found = append(found, ranked{quality, tag})
		}
	}
	slices.SortStableFunc(found, func(a, b ranked) int {
		switch {
		case a.quality > b.quality:
			return -1
		case a.quality < b.quality:
			return 1
		}
		return 0
	})
	tags := make([]string, len(found))
	for index, each := range found {
		tags[index] = each.tag
	}
	return tags
}
