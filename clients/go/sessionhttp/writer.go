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

// responseWriter writes the cookies when the headers are sent. If the app did not answer a refusal,
// responseWriter sends the refusal's response.
type responseWriter struct {
	http.ResponseWriter
	request *http.Request
	visit   *Visit
	cancel  context.CancelCauseFunc
	// isOut is true if the headers were sent. isReplaced is true if the response is a refusal's and
	// not the app's. isHijacked is true if the app has hijacked the connection.
	isOut, isReplaced, isHijacked bool
}

// Unwrap lets http.ResponseController find the wrapped writer.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the headers.
func (w *responseWriter) WriteHeader(status int) {
	isInformational := status >= 100 && status < 200 && status != http.StatusSwitchingProtocols
	if w.isOut || isInformational || w.isHijacked {
		if !w.isReplaced {
			w.ResponseWriter.WriteHeader(status)
		}
		return
	}
	// A router may write 200 by itself although no handler has written anything. If a handler
	// itself answers a refusal with 200, it writes contents, too, and these send the headers.
	if w.visit.refused != nil && status == http.StatusOK {
		return
	}
	refused := w.visit.takeRefusal()
	// Frameworks answer an unknown error with 500.
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

// missingFrom returns the Set-Cookie headers whose cookies the other headers don't set: an inner
// visit may have signed another user in.
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

// replace sends the response of a refusal. It keeps the headers of middleware around this one, and
// removes the headers about the app's contents.
func (w *responseWriter) replace(refused *Refusal) {
	header := w.Header()
	for name := range header {
		isPolicy := strings.HasPrefix(name, "Content-Security-Policy") // also its -Report-Only
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

// Write sends contents. The first call sends the headers before them.
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

// hasSessionEnded reports whether an event stream is over because its session has ended.
func (w *responseWriter) hasSessionEnded() bool {
	return context.Cause(w.request.Context()) == ErrSessionEnded
}

// begin sends the headers, unless they were sent. If the contents have no Content-Type, begin
// detects it as net/http does.
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

// ReadFrom sends contents from a reader, such as a file, with the ReadFrom of the wrapped writer if
// there is one. The parts of an event stream go through Write, which fails once the session has
// ended.
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

// Flush sends the buffered contents.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError sends the headers and the buffered contents. It fails once the session of an event
// stream has ended.
func (w *responseWriter) FlushError() error {
	w.begin(nil)
	if w.hasSessionEnded() {
		return ErrSessionEnded
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// CloseNotify returns a channel that gets a value when the client has disconnected, or when the
// session of an event stream has ended. Gin's Context.Stream needs an http.CloseNotifier.
func (w *responseWriter) CloseNotify() <-chan bool {
	left := make(chan bool, 1)
	context.AfterFunc(w.request.Context(), func() { left <- true })
	return left
}

// Hijack gives the connection to the app, for example for a WebSocket. Then the app itself writes
// the response, so no cookie is sent and no token is renewed. If the app uses the session, the
// connection ends with the session.
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

// finish ends a response to which the handler may have written nothing.
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
