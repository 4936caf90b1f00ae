//go:build unix

package sessionhttp_test

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/sessionauthoritytest"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

// discarding is a ResponseWriter that stores nothing. It is as cheap as possible.
type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header            { return d.header }
func (d *discarding) WriteHeader(int)                {}
func (d *discarding) Write(data []byte) (int, error) { return len(data), nil }

func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = []string{"text/plain"}
	_, _ = w.Write([]byte("hello"))
}

// run also reports the CPU time per request, because other programs on the machine influence it
// less than the elapsed time.
func run(b *testing.B, handler http.Handler, request *http.Request) {
	writer := &discarding{http.Header{}}
	b.ReportAllocs()
	before := processorTime()
	b.ResetTimer()
	for range b.N {
		clear(writer.header)
		handler.ServeHTTP(writer, request)
	}
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
}

func processorTime() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func request(b *testing.B, cookie string) *http.Request {
	made, err := http.NewRequest("GET", "http://localhost/me", nil)
	if err != nil {
		b.Fatal(err)
	}
	made.RemoteAddr, made.RequestURI = "192.0.2.1:50000", "/me"
	made.Header = http.Header{
		"Accept":          {"*/*"},
		"Cookie":          {cookie},
		"Sec-Fetch-Mode":  {"cors"},
		"Sec-Fetch-Site":  {"same-origin"},
		"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64) Chrome/148.0.0.0 Safari/537.36"},
		"Sec-Ch-Ua":       {`"Chromium";v="148", "Google Chrome";v="148", "Not/A)Brand";v="99"`},
		"Accept-Language": {"en"},
	}
	return made
}

// BenchmarkBare measures the handler without the middleware, for comparison with the other
// benchmarks.
func BenchmarkBare(b *testing.B) { run(b, http.HandlerFunc(hello), request(b, "")) }

// BenchmarkCacheHit measures a request of a user whose session is in the near cache.
func BenchmarkCacheHit(b *testing.B) {
	authority := sessionauthoritytest.New(b)
	client := authority.Client(sessionauthority.WithCache(sessionauthority.CacheConfig{}),
		sessionauthority.WithTimeout(5*time.Second))
	flow, err := sessionhttp.NewFlow(client, sessionhttp.Settings{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(flow.Close)
	in := authority.SignIn("ada")
	cookie := "__Host-session=" + in.AccessToken + "; __Host-device=" + in.DeviceID
	asked := request(b, cookie)
	handler := flow.Middleware(sessionhttp.Require(http.HandlerFunc(hello)))
	for deadline := time.Now().Add(patience); client.CacheStats().Hits == 0; {
		if time.Now().After(deadline) {
			b.Fatal("the cache never answers")
		}
		handler.ServeHTTP(&discarding{http.Header{}}, asked)
	}
	run(b, handler, asked)
}

// BenchmarkStranger measures a request of a browser without cookies.
func BenchmarkStranger(b *testing.B) {
	flow, err := sessionhttp.NewFlow(sessionauthoritytest.New(b).Client(), sessionhttp.Settings{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(flow.Close)
	run(b, flow.Middleware(http.HandlerFunc(hello)), request(b, ""))
}
