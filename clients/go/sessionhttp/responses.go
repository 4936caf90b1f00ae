package sessionhttp

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// Header is one header of a response.
type Header struct{ Name, Value string }

// Response is an HTTP response that the middleware sends in place of the app's response. For
// programs it is JSON with an error code, and for people it is a page.
type Response struct {
	Status int
	Header []Header
	Body   []byte
}

// ServeHTTP sends the response to the client. For a HEAD request it sends no body.
func (r *Response) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	header := w.Header()
	for _, line := range r.Header {
		header.Add(line.Name, line.Value)
	}
	w.WriteHeader(r.Status)
	if req.Method != http.MethodHead {
		_, _ = w.Write(r.Body) // an error means that the client has disconnected
	}
}

func (r *Response) value(name string) string {
	for _, line := range r.Header {
		if line.Name == name {
			return line.Value
		}
	}
	return ""
}

var noStore = Header{"Cache-Control", "no-store"}

// text has the texts of a page that a person gets instead of JSON: a heading, and sentences with a
// link.
type text struct{ heading, sentences string }

const (
	codeSignIn      = "sign_in_required"
	codeExpired     = "token_expired"
	codeStepUp      = "insufficient_user_authentication"
	codeUnavailable = "unavailable"
	codeForeign     = "cross_origin_request"
	codeInsecure    = "insecure_cookies"
	codeReturnHop   = "return_hop"

	// textUnavailableForForm names the text for a request that is not repeatable, such as a form.
	// The text has no link to the same page, because the browser would send the form again.
	textUnavailableForForm = "unavailable_for_form"
)

var texts = map[string]text{
	codeUnavailable: {
		"Please try again in a moment",
		"We can't find out right now whether you are signed in. Wait a little, then" +
			` <a href="">try again</a>.`,
	},
	textUnavailableForForm: {
		"That did not work",
		"We can't find out right now whether you are signed in. Wait a little, then" +
			` <a href="/">go to the first page</a> and look whether what you sent has arrived.`,
	},
	codeForeign: {
		"This came from another site",
		`To keep you safe, nothing was done. <a href="/">Go to our own pages</a>, and try again` +
			" from there.",
	},
	codeInsecure: {
		"This app can't be used at this address",
		"It is set up for development, with cookies for http://localhost only. On the machine" +
			` that it runs on, open it at <a href="http://localhost/">http://localhost</a>, with` +
			" the same port. To use it elsewhere, serve it over HTTPS, without" +
			" <code>Cookies{Insecure: true}</code>.",
	},
}

const insecureMessage = "insecure cookies are for http://localhost only: open the app there, or" +
	" serve it over HTTPS without Cookies{Insecure: true}"

const pageForm = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{heading}</title>
<link rel="icon" href="data:,">
<style>
    :root { color-scheme: light dark }
    body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto;
        padding: 0 1rem; overflow-wrap: anywhere }
    h1 { font-size: 1.5rem }
</style>
<h1>{heading}</h1>
<p>{text}</p>
</html>
`

// refusal returns the response of a refusal. If page is true and texts has an entry for name, the
// response is a page with that text. If page is false or texts has no entry for name, the response
// is JSON with the code. more has more members of the JSON object. lines are more headers for the
// response.
func refusal(status int, code string, page bool, name string, more []member, lines ...Header,
) *Response {
	if words, has := texts[name]; page && has {
		html := strings.NewReplacer("{heading}", words.heading, "{text}", words.sentences)
		return made(status, "text/html; charset=utf-8", html.Replace(pageForm), lines)
	}
	members := append([]member{{"error", code}}, more...)
	return made(status, "application/json", object(members), lines)
}

func redirect(url string) *Response {
	return &Response{Status: http.StatusSeeOther, Header: []Header{{"Location", url}, noStore}}
}

func made(status int, kind, body string, lines []Header) *Response {
	header := []Header{{"Content-Type", kind}, {"Content-Length", strconv.Itoa(len(body))}}
	header = append(append(header, lines...), noStore)
	return &Response{Status: status, Header: header, Body: []byte(body)}
}

type member struct {
	name  string
	value any
}

// object returns the text of a JSON object that has the members in the given order.
func object(members []member) string {
	written := make([]string, len(members))
	for index, each := range members {
		value, err := json.Marshal(each.value)
		if err != nil {
			panic(err) // can't happen: all values are texts, numbers and lists of texts
		}
		written[index] = strconv.Quote(each.name) + ": " + string(value)
	}
	return "{" + strings.Join(written, ", ") + "}"
}

// hopPage is a page that makes a browser request the same URL once more. If the browser comes from
// another site, its first request has no strict cookies. The second request comes from hopPage,
// which is a page of this origin, so the second request has the strict cookies. hopPage does not
// contain the requested URL, so an attacker can't use the URL to put a link into the page.
const hopPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
	`<meta http-equiv="refresh" content="0">
<title>One moment</title>
<p><a href="">Go on</a></p>
</html>
`

func returnHop() *Response {
	return &Response{
		Status: http.StatusOK,
		Header: []Header{
			{"Content-Type", "text/html; charset=utf-8"},
			{"Content-Length", strconv.Itoa(len(hopPage))},
			{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
			noStore,
		},
		Body: []byte(hopPage),
	}
}
