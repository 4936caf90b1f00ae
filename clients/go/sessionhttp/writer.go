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

// responseWriter writes the cookies as the headers go out, and answers a refusal in place of the
// app where the app did not.
type responseWriter struct {
	http.ResponseWriter
	request *http.Request
	visit   *Visit
	cancel  context.CancelCauseFunc
	// isOut: the headers are out. isReplaced: the response is a refusal, not the app's.
	isOut, isReplaced, isHijacked bool
}

// Unwrap lets http.ResponseController find the writer below.
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
	// A router may write 200 by itself, where no handler has written anything. A handler that answers
	// a refusal with 200 writes contents, too: they send the headers.
	if w.visit.refused != nil && status == http.StatusOK {
		return
	}
	refused := w.visit.takeRefusal()
	// Frameworks make 500 of an error that they don't know.
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

// missingFrom returns the Set-Cookie lines whose cookies the other lines don't set: an inner visit may
// have signed another user in.
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

// replace answers a refusal. Headers of middleware around this one stay; those about the app's
// contents go.
func (w *responseWriter) replace(refused *Refusal) {
	header := w.Header()
	for name := range header {
		isPolicy := strings.HasPrefix(name, "Content-Security-Policy") // and its Report-Only
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

// Write sends contents, and the headers before the first of them.
func (w *responseWriter) Write(data []byte) (int, error) {
	if len(data) == 0 && w.visit.refused != nil {
		return 0, nil // http.TimeoutHandler writes the nothing that its handler wrote
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

// hasSessionEnded tells whether an event stream is over, as its session is.
func (w *responseWriter) hasSessionEnded() bool {
	return context.Cause(w.request.Context()) == ErrSessionEnded
}

// begin sends the headers, unless they are out. The kind of contents that has no name is found as
// net/http finds it.
func (w *responseWriter) begin(data []byte) {
	if w.isOut || w.isHijacked {
		return
	}
	header := w.Header()
	kind := header.Get("Content-Type")
	if _, has := header["Content-Type"]; !has && header.Get("Content-Encoding") == "" {
		kind = http.DetectContentType(data)
	}
	w.visit.takeRefusal() // the app answers by itself
	w.send(http.StatusOK, kind)
}

// ReadFrom sends contents from a reader, such as a file, in the way that is best for the writer
// below. The parts of an event stream go through Write, which fails once the session has ended.
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

// Flush sends what is buffered.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError sends what is buffered, and the headers before it. It fails once the session of an
// event stream has ended.
func (w *responseWriter) FlushError() error {
	w.begin(nil)
	if w.hasSessionEnded() {
		return ErrSessionEnded
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// CloseNotify returns a channel that gets a value once the client has left, or once the session of
// an event stream has ended. Gin's Context.Stream asserts http.CloseNotifier.
func (w *responseWriter) CloseNotify() <-chan bool {
	left := make(chan bool, 1)
	context.AfterFunc(w.request.Context(), func() { left <- true })
	return left
}

// Hijack hands the connection over, as for a WebSocket. What is written then is the app's own, so
// no cookie goes out and no token is renewed. If the app has looked at the session, the connection
// ends with it.
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

// finish ends a response of which nothing may have been written.
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
