package sessionhttp

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
)

// responseWriter is the http.ResponseWriter of a handler inside the middleware. It adds the cookies
// when the headers are sent. If the app did not answer a refusal, responseWriter sends the response
// of the refusal.
type responseWriter struct {
	http.ResponseWriter
	request *http.Request
	visit   *Visit
	cancel  context.CancelCauseFunc
	// isOut is true if the headers were sent. isReplaced is true if the response of a refusal has
	// replaced the app's response. isHijacked is true if the app has hijacked the connection.
	isOut, isReplaced, isHijacked bool
}

// Unwrap returns the wrapped writer, for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the headers with this status. After a refusal, WriteHeader sends no headers for
// the status 200, and replaces a server error by the response of the refusal.
func (w *responseWriter) WriteHeader(status int) {
	isInformational := status >= 100 && status < 200 && status != http.StatusSwitchingProtocols
	if w.isOut || isInformational || w.isHijacked {
		if !w.isReplaced {
			w.ResponseWriter.WriteHeader(status)
		}
		return
	}
	// A router may write 200 itself after a handler that has written nothing, so 200 is no answer
	// to the refusal. If a handler answers the refusal with 200, the handler also writes contents,
	// and Write sends the headers.
	if w.visit.refused != nil && status == http.StatusOK {
		return
	}
	refused := w.visit.takeRefusal()
	// Some frameworks answer each error that they do not know with 500, so a server error is no
	// answer to the refusal.
	if refused != nil && status >= 500 && status != refused.Response.Status {
		w.replace(refused)
		return
	}
	w.send(status, w.Header().Get("Content-Type"))
}

func (w *responseWriter) send(status int, kind string) {
	w.isOut = true
	header, visit := w.Header(), w.visit
	lines := visit.Close(w.request.Context())
	if own := header["Set-Cookie"]; len(own) > 0 {
		kept := own[:0:0]
		for _, line := range own {
			if !visit.owns(line) {
				kept = append(kept, line)
			}
		}
		header["Set-Cookie"] = kept
		lines = missingFrom(kept, lines)
	}
	visit.setCaching(header, kind)
	header.Add("Vary", vary)
	if asked := visit.flow.acceptCH(&visit.presented); asked != "" {
		header.Add("Accept-CH", asked)
	}
	for _, line := range lines {
		header.Add("Set-Cookie", line)
	}
	w.ResponseWriter.WriteHeader(status)
	if isEventStream(kind) {
		visit.HangUpAtEnd(func() { w.cancel(ErrSessionEnded) })
	}
}

// missingFrom returns the headers in lines, except those for cookies that others already sets.
// lines and others are Set-Cookie headers. others may have a cookie of an inner visit, for example
// after a sign-in, and this cookie must stay.
func missingFrom(others, lines []string) []string {
	missing := lines[:0:0]
	for _, line := range lines {
		name := line[:indexOrEnd(line, '=')+1]
		if !slices.ContainsFunc(others, func(other string) bool {
			return strings.HasPrefix(other, name)
		}) {
			missing = append(missing, line)
		}
	}
	return missing
}

func isEventStream(kind string) bool {
	return strings.HasPrefix(strings.ToLower(kind), "text/event-stream")
}

// replace sends the response of a refusal in place of the app's response. It removes the headers
// that describe the app's response, such as Content-Type and Location. It keeps headers that other
// middleware has set, unless they describe the app's response.
func (w *responseWriter) replace(refused *Refusal) {
	header := w.Header()
	for name := range header {
		isPolicy := strings.HasPrefix(name, "Content-Security-Policy") // or with -Report-Only
		isOfContents := strings.HasPrefix(name, "Content-") && !isPolicy || isAboutCaching(name)
		if isOfContents || name == "Etag" || name == "Last-Modified" || name == "Location" ||
			name == "Transfer-Encoding" || name == "Www-Authenticate" || name == "Retry-After" {
			delete(header, name)
		}
	}
	w.visit.refused = nil
	refused.ServeHTTP(w, w.request)
	w.isReplaced = true
}

// Write sends data to the client. The first call sends the headers first.
func (w *responseWriter) Write(data []byte) (int, error) {
	if len(data) == 0 && w.visit.refused != nil {
		return 0, nil // http.TimeoutHandler writes zero bytes if its handler wrote nothing
	}
	w.begin(data)
	switch {
	case w.isReplaced:
		return len(data), nil
	case w.hasSessionEnded():
		return 0, ErrSessionEnded
	}
	return w.ResponseWriter.Write(data)
}

// hasSessionEnded reports whether the response is an event stream that was ended because its
// session has ended.
func (w *responseWriter) hasSessionEnded() bool {
	return context.Cause(w.request.Context()) == ErrSessionEnded
}

// begin sends the headers if they have not been sent. If the app has set no Content-Type, begin
// detects the type from data, as net/http does.
func (w *responseWriter) begin(data []byte) {
	if w.isOut || w.isHijacked {
		return
	}
	header := w.Header()
	kind := header.Get("Content-Type")
	if _, has := header["Content-Type"]; !has && header.Get("Content-Encoding") == "" {
		kind = http.DetectContentType(data)
	}
	w.visit.takeRefusal() // the app itself answers the refusal
	w.send(http.StatusOK, kind)
}

// ReadFrom sends the contents of source, such as a file. It uses the ReadFrom of the wrapped writer
// if that writer has this method. If the response is an event stream or has no Content-Type,
// ReadFrom uses Write, because Write checks the session and detects the type.
func (w *responseWriter) ReadFrom(source io.Reader) (int64, error) {
	_, has := w.Header()["Content-Type"]
	if !has || w.isReplaced || isEventStream(w.Header().Get("Content-Type")) {
		return io.Copy(struct{ io.Writer }{w}, source)
	}
	w.begin(nil)
	if w.isReplaced {
		return io.Copy(io.Discard, source)
	}
	return io.Copy(w.ResponseWriter, source)
}

// Flush sends the headers and the buffered contents.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError sends the headers and the buffered contents. If the response is an event stream and
// its session has ended, FlushError returns ErrSessionEnded.
func (w *responseWriter) FlushError() error {
	w.begin(nil)
	if w.hasSessionEnded() {
		return ErrSessionEnded
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// CloseNotify returns a channel that receives a value when the client has disconnected. If the
// response is an event stream, the end of its session also sends a value. Gin's Context.Stream
// needs an http.CloseNotifier.
func (w *responseWriter) CloseNotify() <-chan bool {
	left := make(chan bool, 1)
	context.AfterFunc(w.request.Context(), func() { left <- true })
	return left
}

// Hijack gives the connection to the app, for example for a WebSocket. After Hijack the app itself
// writes the response, so the middleware adds no cookies and does not renew the token. If the app
// asks for the session, the connection ends when the session ends.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	connection, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.isHijacked = true
	w.visit.closed = true
	w.visit.takeRefusal()
	guarded := newGuardedConn(connection, isWebSocket(w.visit))
	w.visit.HangUpAtEnd(func() { go guarded.hangUp() })
	guarded.left = w.visit.detach()
	return guarded, guarded.buffered(buffer.Reader), nil
}

// finish runs after the handler. If the handler has sent no headers, finish sends the response of a
// refusal that the handler did not answer. If there was no refusal, finish sends the headers with
// the status 200.
func (w *responseWriter) finish() {
	if w.isOut || w.isHijacked {
		return
	}
	if refused := w.visit.takeRefusal(); refused != nil {
		w.replace(refused)
		return
	}
	w.send(http.StatusOK, w.Header().Get("Content-Type"))
}
