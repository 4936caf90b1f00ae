package requests

import (
	"regexp"
	"strings"
)

const (
	usualID  = `[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`
	nilID    = "00000000-0000-0000-0000-000000000000"
	idBlanks = " \t\r\n"
)

var idForm = regexp.MustCompile(`^(?:` + usualID + `|[0-9a-fA-F]{32}|\{` + usualID +
	`\}|[uU][rR][nN]:[uU][uU][iI][dD]:` + usualID + `)$`)

// DeviceID returns the UUID that the text spells, in lower case and with hyphens (36 characters).
// The result is empty if the text is no UUID, or is the nil UUID.
func DeviceID(text string) string {
	if isCanonicalID(text) {
		return text
	}
	text = strings.Trim(text, idBlanks)
	if !idForm.MatchString(text) {
		return ""
	}
	digits := strings.ToLower(text[max(strings.LastIndex(text, ":")+1, 0):])
	digits = strings.Trim(strings.ReplaceAll(digits, "-", ""), "{}")
	made := digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" +
		digits[20:]
	if made == nilID {
		return ""
	}
	return made
}

// isCanonicalID reports whether the text is a UUID in the form that DeviceID returns. The service
// writes device IDs in the canonical form, so nearly all device IDs need no parsing.
func isCanonicalID(text string) bool {
	if len(text) != len(nilID) || text == nilID {
		return false
	}
	for index := 0; index < len(text); index++ {
		letter := text[index]
		isDash := index == 8 || index == 13 || index == 18 || index == 23
		isDigit := '0' <= letter && letter <= '9' || 'a' <= letter && letter <= 'f'
		if isDash != (letter == '-') || (!isDash && !isDigit) {
			return false
		}
	}
	return true
}
