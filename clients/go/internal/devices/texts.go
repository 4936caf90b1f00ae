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
	// maxSubtags is how many parts of a language tag count. TextsFor looks up all shorter forms of
	// a tag, and no language of an app has more parts than maxSubtags.
	maxSubtags = 8
)

//go:embed messages/*.json
var messageFiles embed.FS

var (
	languages = []string{"ar", "de", "en", "es", "fr", "tr"}
	// rightToLeft has the languages that are written from right to left.
	rightToLeft = map[string]bool{"ar": true}

	tagForm     = regexp.MustCompile(`^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*$`)
	qualityForm = regexp.MustCompile(`^q *= *([01](?:\.[0-9]{0,3})?)$`)
)

// Texts has all texts of the page of devices in one language. Messages has the texts by their keys.
// If a text depends on a count, its value is an object with a text for each plural category.
type Texts struct {
	Language  string         `json:"language"`
	Direction string         `json:"direction"`
	Messages  map[string]any `json:"messages"`
}

// Text returns the text of a key. It returns an empty text if the key is unknown, or if its text
// depends on a count.
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
			panic(err) // can't happen: the files are embedded in the program
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

// TextsFor returns the texts in the first language of wanted that has texts. If no wanted language
// has texts, TextsFor returns the English texts. A wanted "de-AT" gets the texts of "de".
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

// Accepted returns the languages that the Accept-Language headers of a request name, the most
// preferred first. lines are the values of the Accept-Language headers.
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
