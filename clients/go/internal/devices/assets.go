package devices

import (
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"strings"
	"sync"
)

// ElementName is the name of the file with the custom element <session-devices>.
const ElementName = "session-devices.js"

// Element is the JavaScript module of the custom element <session-devices>, which calls the devices
// API.
//
//go:embed static/session-devices.js
var Element []byte

//go:embed openapi.json
var described []byte

var elementHash = sync.OnceValue(func() [sha512.Size384]byte { return sha512.Sum384(Element) })

// ElementVersion returns the part of the element's URL that changes with the element's contents.
func ElementVersion() string {
	sum := elementHash()
	return hex.EncodeToString(sum[:])[:16]
}

// Description returns the OpenAPI document of the devices API. mount is the path of the page of
// devices, below which the API is.
func Description(mount string) ([]byte, error) {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(described, &document); err != nil {
		return nil, err
	}
	servers, err := json.Marshal([]map[string]string{{"url": mount}})
	if err != nil {
		return nil, err
	}
	document["servers"] = servers
	return json.Marshal(document)
}

const pageStyle = `
    body { font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto;
        padding: 0 1rem; overflow-wrap: anywhere }
`

// PagePolicy returns the Content-Security-Policy of the page that Page returns.
func PagePolicy() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data:; script-src 'self'; connect-src 'self'; form-action 'self';" +
		" base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
}

const pageForm = `<!doctype html>
<html lang="{language}" dir="{direction}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
<main>
{contents}</main>
</html>
`

const elementForm = `<script type="module" src="{mount}/static/session-devices.js?v={version}"
    integrity="sha384-{hash}"></script>
<session-devices src="{mount}" language="{language}" sign-in="{mount}"{alarm}></session-devices>
<noscript><p>This page needs JavaScript.</p></noscript>
`

// Page returns the page with the custom element <session-devices>. mount is the path of the page. A
// user may come to the page from a link in a mail about an event, which is an alarm or a sign-in.
// alarm is the ID of this event, or empty if the user does not come from a mail.
func Page(mount string, texts *Texts, alarm string) string {
	sum := elementHash()
	shown := ""
	if alarm != "" {
		shown = ` alarm="` + html.EscapeString(alarm) + `"`
	}
	return page(texts, texts.Text("title"), strings.NewReplacer(
		"{mount}", mount, "{language}", texts.Language, "{version}", ElementVersion(),
		"{hash}", base64.StdEncoding.EncodeToString(sum[:]), "{alarm}", shown,
	).Replace(elementForm))
}

// FailurePage returns a page that shows the message of a failure to a person.
func FailurePage(texts *Texts, message string) string {
	contents := "<p role=\"alert\">" + html.EscapeString(message) + "</p>\n"
	return page(texts, texts.Text("error.title"), contents)
}

func page(texts *Texts, title, contents string) string {
	return strings.NewReplacer(
		"{language}", texts.Language, "{direction}", texts.Direction,
		"{title}", html.EscapeString(title), "{style}", pageStyle, "{contents}", contents,
	).Replace(pageForm)
}
