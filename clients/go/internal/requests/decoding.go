package requests

import "strings"

// Unquote decodes percent escapes. A "%" without two hexadecimal digits after it is not changed. If
// the decoded text has bytes that are not UTF-8, Unquote replaces these bytes with U+FFFD. A text
// without "%" is returned unchanged.
func Unquote(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	var made strings.Builder
	for index := 0; index < len(text); index++ {
		if text[index] == '%' && index+2 < len(text) {
			high, isHigh := hexValue(text[index+1])
			low, isLow := hexValue(text[index+2])
			if isHigh && isLow {
				made.WriteByte(high<<4 | low)
				index += 2
				continue
			}
		}
		made.WriteByte(text[index])
	}
	return strings.ToValidUTF8(made.String(), "\uFFFD")
}

func hexValue(digit byte) (byte, bool) {
	switch {
	case '0' <= digit && digit <= '9':
		return digit - '0', true
	case 'a' <= digit && digit <= 'f':
		return digit - 'a' + 10, true
	case 'A' <= digit && digit <= 'F':
		return digit - 'A' + 10, true
	}
	return 0, false
}

// Quote percent-encodes all bytes of text except letters, digits, "_.-~" and the bytes in safe.
func Quote(text, safe string) string {
	const digits = "0123456789ABCDEF"
	var made strings.Builder
	for index := 0; index < len(text); index++ {
		letter := text[index]
		if isUnreserved(letter) || strings.IndexByte(safe, letter) >= 0 {
			made.WriteByte(letter)
			continue
		}
		made.WriteString("%" + string(digits[letter>>4]) + string(digits[letter&15]))
	}
	return made.String()
}

func isUnreserved(letter byte) bool {
	return 'a' <= letter && letter <= 'z' || 'A' <= letter && letter <= 'Z' ||
		'0' <= letter && letter <= '9' || strings.IndexByte("_.-~", letter) >= 0
}

// Field is a field of a query or a form.
type Field struct{ Name, Value string }

// Fields decodes the fields of a query or a form. If keepBlank is false, Fields leaves out fields
// without a value. The second result is false if text has more than max fields.
func Fields(text string, max int, keepBlank bool) ([]Field, bool) {
	if text == "" {
		return nil, true
	}
	if strings.Count(text, "&")+1 > max {
		return nil, false
	}
	var found []Field
	for _, pair := range strings.Split(text, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if pair == "" || (value == "" && !keepBlank) {
			continue
		}
		found = append(found, Field{unquoteForm(name), unquoteForm(value)})
	}
	return found, true
}

func unquoteForm(text string) string {
	return Unquote(strings.ReplaceAll(text, "+", " "))
}

// Path returns the path of a request's target, decoded and without the query.
func Path(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return Unquote(path)
}

// Query returns the query of a request's target, without decoding the query.
func Query(target string) string {
	_, query, _ := strings.Cut(target, "?")
	return query
}
