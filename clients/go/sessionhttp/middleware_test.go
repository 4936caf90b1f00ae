package sessionhttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/fakeauthority"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

const patience = 20 * time.Second

// site is an app behind the middleware, with a browser that follows no redirect.
type site struct {
	t       *testing.T
	service *fakeauthority.Fake
	flow    *sessionhttp.Flow
	url     string
	browser *http.Client
}

func newSite(
	t *testing.T, settings sessionhttp.Settings, routes map[string]http.HandlerFunc,
) *site {
	t.Helper()
	service := fakeauthority.New()
	settings.Cookies.Insecure = true
	settings.Logger = slog.New(slog.DiscardHandler)
	flow, err := sessionhttp.NewFlow(service, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(flow.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sign-in", func(w http.ResponseWriter, r *http.Request) {
		visit := sessionhttp.FromContext(r.Context())
		if _, err := visit.SignIn(r.Context(), "ada", sessionhttp.SignIn{}); err != nil {
			t.Error(err)
		}
	})
	for pattern, handler := range routes {
		mux.HandleFunc(pattern, handler)
	}
	server := httptest.NewServer(flow.Middleware(mux))
	t.Cleanup(server.Close)
	return &site{t, service, flow, server.URL, newBrowser()}
}

func newBrowser() *http.Client {
	jar, _ := cookiejar.New(nil)
	return &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request,
		[]*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func (s *site) signIn() *site {
	s.t.Helper()
	if status, body := s.send("POST", "/sign-in", ""); status != http.StatusOK {
		s.t.Fatal(status, body)
	}
	return s
}

func (s *site) send(method, path, body string, headers ...string) (int, string) {
	s.t.Helper()
	response := s.open(method, path, body, headers...)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func (s *site) open(method, path, body string, headers ...string) *http.Response {
	s.t.Helper()
	request, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for index := 0; index < len(headers); index += 2 {
		request.Header.Set(headers[index], headers[index+1])
	}
	response, err := s.browser.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	return response
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func greet(w http.ResponseWriter, r *http.Request) {
	session, err := sessionhttp.FromContext(r.Context()).Require()
	if err != nil {
		return
	}
	fmt.Fprintf(w, "hello %s", session.UserID)
}

func TestTheMiddlewareAnswersIfAHandlerWritesNothingAfterARefusal(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{"/": greet})
	const denied = `{"error": "sign_in_required"}`
	if status, body := s.send("GET", "/", ""); status != 401 || body != denied {
		t.Error(status, body)
	}
	if status, body := s.signIn().send("GET", "/", ""); status != 200 || body != "hello ada" {
		t.Error(status, body)
	}
}

func TestAServerErrorAfterARefusalIsReplaced(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{SignInURL: "/sign-in"}, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			if _, err := sessionhttp.FromContext(r.Context()).Require(); err != nil {
				w.Header().Set("Content-Length", "4")
				http.Error(w, "oops", http.StatusInternalServerError)
			}
		},
		"/own": func(w http.ResponseWriter, r *http.Request) {
			if _, err := sessionhttp.FromContext(r.Context()).Require(); err != nil {
				http.Error(w, "no", http.StatusForbidden)
			}
		},
	})
	response := s.open("GET", "/", "", "Accept", "text/html")
	if response.StatusCode != 303 || response.Header.Get("Location") != "/sign-in?next=/" {
		t.Error(response.StatusCode, response.Header)
	}
	if status, body := s.send("GET", "/own", ""); status != 403 || body != "no\n" {
		t.Error("the app's own answer was replaced", status, body)
	}
}

func TestAServerErrorWithoutARefusalIsKept(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "oops", http.StatusInternalServerError)
		},
	})
	if status, body := s.signIn().send("GET", "/", ""); status != 500 || body != "oops\n" {
		t.Error(status, body)
	}
}

func TestAnOutageIs503OnlyWhereASessionIsNeeded(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/":       greet,
		"/public": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "open") },
	})
	s.signIn().service.Fail(sessionauthority.ErrUnavailable)
	response := s.open("GET", "/", "")
	if response.StatusCode != 503 || response.Header.Get("Retry-After") != "1" {
		t.Error(response.StatusCode, response.Header)
	}
	if lines := response.Header["Set-Cookie"]; len(lines) > 0 {
		t.Error("an outage changes cookies", lines)
	}
	if status, body := s.send("GET", "/public", ""); status != 200 || body != "open" {
		t.Error(status, body)
	}
	s.service.Fail(nil)
	if status, _ := s.send("GET", "/", ""); status != 200 {
		t.Error("the outage signed the user out", status)
	}
}

func TestTheTokenIsRenewedBeforeTheHeadersOfAStreamAreSent(t *testing.T) {
	more := make(chan struct{})
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "first")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-more
			fmt.Fprintln(w, "second")
		},
	})
	s.signIn().service.RenewRecommended = true
	response := s.open("GET", "/", "")
	if lines := response.Header["Set-Cookie"]; len(lines) != 2 {
		t.Error("no cookies before the first part", lines)
	}
	reader := bufio.NewReader(response.Body)
	if line, err := reader.ReadString('\n'); line != "first\n" || err != nil {
		t.Error(line, err)
	}
	close(more)
	if rest, err := io.ReadAll(reader); string(rest) != "second\n" || err != nil {
		t.Error(string(rest), err)
	}
}

func TestAFlushBeforeTheFirstPartSendsTheCookies(t *testing.T) {
	more := make(chan struct{})
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-more
		},
	})
	s.signIn().service.RenewRecommended = true
	response := s.open("GET", "/", "")
	if lines := response.Header["Set-Cookie"]; len(lines) != 2 {
		t.Error(lines)
	}
	close(more)
}

func TestACookieOfTheAppWithOurNameIsLeftOut(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "mine"})
			http.SetCookie(w, &http.Cookie{Name: "other", Value: "mine"})
		},
	})
	lines := s.open("GET", "/", "").Header["Set-Cookie"]
	if len(lines) != 1 || lines[0] != "other=mine" {
		t.Error(lines)
	}
}

func TestAPageWithoutAContentTypeIsNoStore(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/page": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>hi</html>") },
		"/text": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hi") },
	})
	s.signIn()
	if kept := s.open("GET", "/page", "").Header.Get("Cache-Control"); kept != "no-store" {
		t.Errorf("%q", kept)
	}
	if kept := s.open("GET", "/text", "").Header.Get("Cache-Control"); kept != "" {
		t.Errorf("%q", kept)
	}
}

func TestCookiesCannotBeChangedOnceTheHeadersAreOut(t *testing.T) {
	var late error
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "out")
			visit := sessionhttp.FromContext(r.Context())
			_, late = visit.SignIn(r.Context(), "ada", sessionhttp.SignIn{})
		},
	})
	s.send("GET", "/", "")
	if !errors.Is(late, sessionhttp.ErrHeadersAreOut) {
		t.Error(late)
	}
}

func TestAnEventStreamEndsWithTheSession(t *testing.T) {
	ended := make(chan error, 1)
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/events": func(w http.ResponseWriter, r *http.Request) {
			if _, err := sessionhttp.FromContext(r.Context()).Require(); err != nil {
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: hello\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			_, err := fmt.Fprint(w, "data: late\n\n")
			for _, each := range []error{
				context.Cause(r.Context()), http.NewResponseController(w).Flush(),
			} {
				if !errors.Is(each, sessionhttp.ErrSessionEnded) {
					t.Error(each)
				}
			}
			ended <- err
		},
	})
	response := s.signIn().open("GET", "/events", "")
	await(t, "a watch", func() bool { return s.service.Watchers() == 1 })
	revoke(t, s.service)
	contents, err := io.ReadAll(response.Body)
	if string(contents) != "data: hello\n\n" || err != nil {
		t.Errorf("%q %v", contents, err)
	}
	if err := <-ended; !errors.Is(err, sessionhttp.ErrSessionEnded) {
		t.Error(err)
	}
	await(t, "the watch to end", func() bool { return s.service.Watchers() == 0 })
}

// stages is a reader. Each function returns one part of the stream.
type stages []func() string

func (s *stages) Read(data []byte) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	next := (*s)[0]
	*s = (*s)[1:]
	return copy(data, next()), nil
}

func TestAnEventStreamThatIsCopiedEndsWithTheSession(t *testing.T) {
	ended := make(chan error, 1)
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/events": func(w http.ResponseWriter, r *http.Request) {
			if _, err := sessionhttp.FromContext(r.Context()).Require(); err != nil {
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_, err := io.Copy(w, &stages{
				func() string { return "data: hello\n\n" },
				func() string { <-r.Context().Done(); return "data: late\n\n" },
			})
			ended <- err
		},
	})
	s.signIn()
	contents := make(chan string)
	go func() {
		_, body := s.send("GET", "/events", "")
		contents <- body
	}()
	await(t, "a watch", func() bool { return s.service.Watchers() == 1 })
	revoke(t, s.service)
	if err := <-ended; !errors.Is(err, sessionhttp.ErrSessionEnded) {
		t.Error(err)
	}
	if body := <-contents; body != "data: hello\n\n" {
		t.Errorf("%q", body)
	}
}

func TestAnEventStreamStaysOpenAfterKeepOpen(t *testing.T) {
	told := make(chan struct{})
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/events": func(w http.ResponseWriter, r *http.Request) {
			visit := sessionhttp.FromContext(r.Context())
			visit.KeepOpen()
			ended, err := visit.Ended()
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: hello\n\n")
			_ = http.NewResponseController(w).Flush()
			<-ended
			fmt.Fprint(w, "data: bye\n\n")
			close(told)
		},
	})
	response := s.signIn().open("GET", "/events", "")
	revoke(t, s.service)
	contents, _ := io.ReadAll(response.Body)
	<-told
	if !strings.HasSuffix(string(contents), "data: bye\n\n") {
		t.Errorf("%q", contents)
	}
}

func TestAWebSocketIsClosedWith4401WhenTheSessionEnds(t *testing.T) {
	left := make(chan error, 1)
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/socket": func(w http.ResponseWriter, r *http.Request) {
			if _, err := sessionhttp.FromContext(r.Context()).Require(); err != nil {
				return
			}
			connection, buffer, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer connection.Close()
			fmt.Fprint(buffer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
				"Connection: Upgrade\r\n\r\n")
			_ = buffer.Flush()
			visit := sessionhttp.FromContext(r.Context())
			_, err = visit.SignIn(r.Context(), "ada", sessionhttp.SignIn{})
			if !errors.Is(err, sessionhttp.ErrHeadersAreOut) {
				t.Error("no header can bring the cookies", err)
			}
			_, err = buffer.ReadByte()
			left <- err
		},
	})
	s.service.RenewRecommended = true
	token := s.signIn().service.Tokens("ada")[0]
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	request, _ := http.NewRequest("GET", s.url+"/socket", nil)
	request.Header.Set("Upgrade", "websocket")
	request.Header.Set("Connection", "Upgrade")
	for _, cookie := range s.browser.Jar.Cookies(request.URL) {
		request.AddCookie(cookie)
	}
	if err := request.Write(connection); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, request)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(response, err)
	}
	await(t, "a watch", func() bool { return s.service.Watchers() == 1 })
	revoke(t, s.service)
	frame, err := io.ReadAll(reader)
	if string(frame) != "\x88\x0f\x11\x31session_ended" || err != nil {
		t.Errorf("%q %v", frame, err)
	}
	if err := <-left; err == nil {
		t.Error("the app does not see that the client has left")
	}
	if s.service.Calls("RenewSession") > 0 || token == "" {
		t.Error("a token was renewed that no header could bring to the browser")
	}
}

// revoke signs ada out on all devices, with one event for each device.
func revoke(t *testing.T, service *fakeauthority.Fake) {
	t.Helper()
	for device, err := range service.Devices(t.Context(), "ada",
		&sessionauthority.ListDevicesOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		_, _ = service.RevokeDevice(t.Context(), "ada", device.DeviceID, nil)
	}
}

func TestFromContextPanicsWithoutTheMiddleware(t *testing.T) {
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "Flow.Middleware") {
			t.Error(text)
		}
	}()
	sessionhttp.FromContext(t.Context())
}

func TestTheMiddlewareAnswersEvenIfARouterWrites200ByItself(t *testing.T) {
	const denied = `{"error": "sign_in_required"}`
	inTime := func(handler http.HandlerFunc) http.HandlerFunc {
		return http.TimeoutHandler(handler, patience, "").ServeHTTP
	}
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/in-time": inTime(greet),
		"/now": func(w http.ResponseWriter, r *http.Request) {
			greet(w, r)
			w.WriteHeader(http.StatusOK) // as Gin does after its handlers
		},
		"/own": func(w http.ResponseWriter, r *http.Request) {
			greet(w, r)
			w.WriteHeader(http.StatusOK)
			fmt.Fprint(w, "a page for everybody")
		},
		"/empty": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) },
	})
	for _, path := range []string{"/in-time", "/now"} {
		if status, body := s.send("GET", path, ""); status != 401 || body != denied {
			t.Error(path, status, body)
		}
	}
	if status, body := s.send("GET", "/own", ""); status != 200 || body != "a page for everybody" {
		t.Error(status, body)
	}
	if status, body := s.send("GET", "/empty", ""); status != 200 || body != "" {
		t.Error(status, body)
	}
	if status, body := s.signIn().send("GET", "/in-time", ""); status != 200 || body != "hello ada" {
		t.Error(status, body)
	}
}

func TestCloseNotifyReportsTheEndOfTheSession(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/stream": func(w http.ResponseWriter, r *http.Request) {
			if _, err := sessionhttp.FromContext(r.Context()).Require(); err != nil {
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			// Gin asserts this in Context.Stream, and panics without it.
			<-w.(interface{ CloseNotify() <-chan bool }).CloseNotify()
		},
	})
	response := s.signIn().open("GET", "/stream", "")
	await(t, "a watch", func() bool { return s.service.Watchers() == 1 })
	revoke(t, s.service)
	if contents, err := io.ReadAll(response.Body); len(contents) > 0 || err != nil {
		t.Errorf("%q %v", contents, err)
	}
}

func TestAReplacedResponseKeepsTheContentSecurityPolicy(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Content-Security-Policy", "Content-Disposition"} {
				w.Header().Set(name, "of the app")
			}
			greet(w, r)
		},
	})
	header := s.open("GET", "/", "").Header
	policy := header.Get("Content-Security-Policy")
	if policy != "of the app" || header.Get("Content-Disposition") != "" {
		t.Error(header)
	}
}

func TestAHandlerThatOnlyLogsTheUserAnswersItselfInAnOutage(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, map[string]http.HandlerFunc{
		"/beacon": func(w http.ResponseWriter, r *http.Request) {
			if user := sessionhttp.FromContext(r.Context()).UserID(); user != "" {
				t.Error(user)
			}
			w.WriteHeader(http.StatusOK)
		},
	})
	s.signIn().service.Fail(sessionauthority.ErrUnavailable)
	if status, body := s.send("POST", "/beacon", ""); status != 200 || body != "" {
		t.Error(status, body)
	}
}

func TestAHostHeaderBesideTheAuthorityOfHTTP2DoesNotCount(t *testing.T) {
	s := newSite(t, sessionhttp.Settings{}, nil)
	// net/http keeps the Host header if a client of HTTP/2 sends both.
	request := httptest.NewRequest("POST", "/sign-in", nil)
	request.Host = "localhost"
	request.Header["Host"] = []string{"evil.example"}
	request.Header["Origin"] = []string{"http://evil.example"}
	response := httptest.NewRecorder()
	s.flow.Middleware(http.HandlerFunc(greet)).ServeHTTP(response, request)
	if response.Code != http.StatusForbidden {
		t.Error(response.Code, response.Body)
	}
}

// replaying is a service that reports each token as replayed.
type replaying struct{ *fakeauthority.Fake }

func (replaying) ValidateSession(
	context.Context, string, string, *sessionauthority.ValidateSessionOptions,
) (sessionauthority.Validation, error) {
	return sessionauthority.Validation{Status: sessionauthority.StatusReplayed}, nil
}

func TestTheInnerOfTwoMiddlewaresSetsTheCookies(t *testing.T) {
	flow, err := sessionhttp.NewFlow(replaying{fakeauthority.New()}, sessionhttp.Settings{
		Cookies: sessionhttp.Cookies{Insecure: true}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(flow.Close)
	signIn := func(w http.ResponseWriter, r *http.Request) {
		visit := sessionhttp.FromContext(r.Context())
		issued, err := visit.SignIn(r.Context(), "ada", sessionhttp.SignIn{})
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(w, issued.AccessToken)
	}
	app := flow.Middleware(flow.Middleware(http.HandlerFunc(signIn)))
	for _, cookies := range []string{"", "session=old; device=" + uuid.NewString()} {
		request := httptest.NewRequest("POST", "/", nil)
		request.Host = "localhost"
		request.Header.Set("Cookie", cookies) // with a replayed token the outer visit deletes cookies
		recorder := httptest.NewRecorder()
		app.ServeHTTP(recorder, request)
		lines := recorder.Header()["Set-Cookie"]
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "session="+recorder.Body.String()+";") {
			t.Errorf("%q sets %q", cookies, lines)
		}
	}
}
