package sessionauthority_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	sa "github.com/session-authority/session-authority/clients/go"
)

// BenchmarkHit measures an answer of the near cache. The token is as long as the tokens of the
// service.
func BenchmarkHit(b *testing.B) {
	service := newWatched(b)
	client := service.client(b, sa.WithCache(sa.CacheConfig{}))
	token := strings.Repeat("x", 700)
	hits(b, client, token)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.ValidateSession(ctx, token, testDevice, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHitParallel measures the same with many goroutines, which validate the same token.
func BenchmarkHitParallel(b *testing.B) {
	service := newWatched(b)
	client := service.client(b, sa.WithCache(sa.CacheConfig{}))
	hits(b, client, "token")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := client.ValidateSession(context.Background(), "token", testDevice, nil)
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkInFlight measures 64 callers at once, and one caller, against the service at AUTHORITY,
// with batching and without it. It reports the CPU time for each validation in this process and in
// the service's process (AUTHORITY_PID), and how many validations went with each call.
func BenchmarkInFlight(b *testing.B) {
	address := os.Getenv("AUTHORITY")
	if address == "" {
		b.Skip("AUTHORITY names no service")
	}
	for _, mode := range []struct {
		name    string
		callers int
		opts    []sa.Option
	}{
		{"64-batched", 64, nil},
		{"64-single", 64, []sa.Option{sa.WithoutBatching()}},
		{"1-batched", 1, nil},
		{"1-single", 1, []sa.Option{sa.WithoutBatching()}},
	} {
		b.Run(mode.name, func(b *testing.B) { inFlight(b, address, mode.callers, mode.opts) })
	}
}

func inFlight(b *testing.B, address string, callers int, opts []sa.Option) {
	var calls atomic.Int64
	counting := sa.WithDialOptions(grpc.WithUnaryInterceptor(func(
		ctx context.Context, method string, request, response any, conn *grpc.ClientConn,
		call grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		calls.Add(1)
		return call(ctx, method, request, response, conn, opts...)
	}))
	client, err := sa.NewClient(address, append(opts, sa.WithTimeout(20*time.Second), counting)...)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	issued, err := client.IssueDevice(context.Background(), "ada", nil)
	if err != nil {
		b.Fatal(err)
	}
	token, device := issued.AccessToken, issued.Device.DeviceID
	var left atomic.Int64
	left.Store(int64(b.N))
	calls.Store(0)
	b.ReportAllocs()
	b.ResetTimer()
	own, before := ownTime(b), cpuTime(b)
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				found, err := client.ValidateSession(context.Background(), token, device, nil)
				if err != nil || !found.Active {
					b.Errorf("got %+v, %v", found, err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "validations/s")
	b.ReportMetric(float64(b.N)/float64(calls.Load()), "validations/call")
	b.ReportMetric(float64((ownTime(b)-own).Microseconds())/float64(b.N), "client-us/op")
	spent := cpuTime(b) - before
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "service-us/op")
}

// ownTime returns the CPU time of this process so far.
func ownTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// cpuTime returns the CPU time of the process AUTHORITY_PID so far, which Linux reports in /proc.
// Without AUTHORITY_PID it returns 0.
func cpuTime(b *testing.B) time.Duration {
	pid := os.Getenv("AUTHORITY_PID")
	if pid == "" {
		return 0
	}
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	ticks := 0
	for _, field := range strings.Fields(rest)[11:13] { // utime, stime
		number, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += number
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
