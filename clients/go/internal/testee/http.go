package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	sa "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

// apps has one app for each client. Each app uses one Flow for all its requests.
type apps struct {
	mu sync.Mutex
	of map[*sa.Client]http.Handler
}

var served = apps{of: map[*sa.Client]http.Handler{}}

// appOf returns the app of a client. The first call of appOf for a client makes the app.
func (a *apps) appOf(client *sa.Client) (http.Handler, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if app := a.of[client]; app != nil {
		return app, nil
	}
	flow, err := sessionhttp.NewFlow(client, sessionhttp.Settings{
		SignInURL: "/sign-in", Cookies: sessionhttp.Cookies{Insecure: true},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /public", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "public")
	})
	mux.HandleFunc("/private", func(w http.ResponseWriter, r *http.Request) {
		if session, err := sessionhttp.FromContext(r.Context()).Require(); err == nil {
			_, _ = io.WriteString(w, session.UserID)
		}
	})
	mux.HandleFunc("POST /sign-in", func(w http.ResponseWriter, r *http.Request) {
		visit := sessionhttp.FromContext(r.Context())
		_, err := visit.SignIn(r.Context(), r.PostFormValue("user"), sessionhttp.SignIn{})
		lead(w, r, err)
	})
	mux.HandleFunc("POST /sign-out", func(w http.ResponseWriter, r *http.Request) {
		visit := sessionhttp.FromContext(r.Context())
		_, err := visit.SignOut(r.Context(), sessionhttp.SignOut{})
		lead(w, r, err)
	})
	mux.HandleFunc("GET /stream", stream)
	a.of[client] = flow.Middleware(mux)
	return a.of[client], nil
}

// lead redirects the browser to "/" if err is nil. If err is not nil, lead answers the request with
// the error.
func lead(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case err == nil:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	case !sessionhttp.Answer(w, r, err):
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// stream answers with an event stream. The middleware ends the stream when the session ends.
func stream(w http.ResponseWriter, r *http.Request) {
	if _, err := sessionhttp.FromContext(r.Context()).Require(); err != nil {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "data: open\n\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// request is the command "http": it sends a request to the app of the client, in this process.
func request(r *run) (any, error) {
	var method, path, body string
	var headers [][2]string
	if err := r.fields.need("method", &method, "path", &path); err != nil {
		return nil, err
	}
	if err := r.fields.may("headers", &headers, "body", &body); err != nil {
		return nil, err
	}
	app, err := served.appOf(r.client)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sent, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path,
		strings.NewReader(body))
	if err != nil {
		return nil, badCommand("path: " + err.Error())
	}
	sent.RequestURI, sent.RemoteAddr = path, "127.0.0.1:1"
	for _, header := range headers {
		if strings.EqualFold(header[0], "host") {
			sent.Host = header[1]
		} else {
			sent.Header.Add(header[0], header[1])
		}
	}
	r.begun()
	response := &recorder{header: http.Header{}, flushed: func(status int) {
		r.note(map[string]any{"status": status})
	}}
	app.ServeHTTP(response, sent)
	return response.line(), nil
}

// recorder is an http.ResponseWriter that keeps the response in memory. It calls flushed when the
// app flushes the response for the first time.
type recorder struct {
	header  http.Header
	sent    http.Header
	status  int
	body    bytes.Buffer
	flushed func(status int)
	isTold  bool
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *recorder) Write(data []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(data)
}

// Flush calls flushed with the status of the response. Later calls of Flush do nothing.
func (w *recorder) Flush() {
	if !w.isTold {
		w.isTold = true
		w.flushed(w.status)
	}
}

func (w *recorder) line() any {
	headers := [][2]string{}
	for name, lines := range w.sent {
		for _, line := range lines {
			headers = append(headers, [2]string{name, line})
		}
	}
	return map[string]any{
		"status": w.status, "headers": headers, "body": w.body.String(),
	}
}
