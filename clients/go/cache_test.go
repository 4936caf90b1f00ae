package sessionauthority_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sa "github.com/session-authority/session-authority/clients/go"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// watched is a scripted service. A test sends messages to its watches through told, and ends them
// through ended.
type watched struct {
	*scripted
	started time.Time
	told    chan *pb.WatchEventsResponse
	ended   chan error
}

func newWatched(t testing.TB) *watched {
	w := &watched{
		scripted: newScripted(t), started: time.Now(),
		told: make(chan *pb.WatchEventsResponse), ended: make(chan error),
	}
	w.watch = func(
		_ *pb.WatchEventsRequest, stream grpc.ServerStreamingServer[pb.WatchEventsResponse],
	) error {
		if err := stream.Send(w.proof()); err != nil {
			return err
		}
		for {
			select {
			case message := <-w.told:
				if err := stream.Send(message); err != nil {
					return err
				}
			case err := <-w.ended:
				return err
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
	}
	return w
}

func (w *watched) proof() *pb.WatchEventsResponse {
	return &pb.WatchEventsResponse{ReadUptime: durationpb.New(time.Since(w.started))}
}

func event(kind pb.EventType, user string) *pb.WatchEventsResponse {
	return &pb.WatchEventsResponse{Events: []*pb.Event{{Type: kind, UserId: user}}}
}

// eventually waits until a condition holds, or fails the test. Its deadline of 10 seconds is
// shorter than the 15 seconds for which a cache is live after its last proof.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("not in 10 seconds: %s", what)
}

// hits repeats a validation until the cache answers it.
func hits(t testing.TB, client *sa.Client, token string) {
	t.Helper()
	before := client.CacheStats().Hits
	eventually(t, "the cache answers", func() bool {
		found, err := client.ValidateSession(context.Background(), token, testDevice, nil)
		if err != nil || !found.Active {
			t.Fatalf("got %+v, %v", found, err)
		}
		return client.CacheStats().Hits > before
	})
}

func TestTheCacheAnswersWhileAWatchIsLive(t *testing.T) {
	service := newWatched(t)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}))
	hits(t, client, "token")
	before := service.called("ValidateSession")
	for range 10 {
		if _, err := client.ValidateSession(t.Context(), "token", testDevice, nil); err != nil {
			t.Fatal(err)
		}
	}
	if after := service.called("ValidateSession"); after != before {
		t.Errorf("%d calls for answers of the cache", after-before)
	}
	stats := client.CacheStats()
	if !stats.Live || stats.Entries != 1 || stats.Staleness > time.Minute {
		t.Errorf("got %+v", stats)
	}
}

func TestWhatDropsAnAnswer(t *testing.T) {
	for name, change := range map[string]func(*watched, *sa.Client){
		"an event of the user": func(w *watched, _ *sa.Client) {
			w.told <- event(pb.EventType_EVENT_TYPE_DEVICE_REVOKED, "ada")
		},
		"an event of no user": func(w *watched, _ *sa.Client) {
			w.told <- event(pb.EventType_EVENT_TYPE_DEVICE_REVOKED, "")
		},
		"an event of an unknown type": func(w *watched, _ *sa.Client) {
			w.told <- event(99, "bob")
		},
		"a revoked key": func(w *watched, _ *sa.Client) {
			w.told <- event(pb.EventType_EVENT_TYPE_SIGNING_KEY_REVOKED, "")
		},
		"the end of the watch": func(w *watched, _ *sa.Client) { w.ended <- nil },
		"a watch that failed": func(w *watched, _ *sa.Client) {
			w.ended <- status.Error(codes.Unavailable, "away")
		},
		"a clock that ran ahead": func(w *watched, _ *sa.Client) {
			w.told <- &pb.WatchEventsResponse{
				ReadUptime: durationpb.New(time.Since(w.started) + 3*time.Second),
			}
		},
		"a renewal": func(_ *watched, c *sa.Client) {
			_, _ = c.RenewSession(context.Background(), "token", testDevice, nil)
		},
		"a revocation of its own": func(_ *watched, c *sa.Client) {
			_, _ = c.RevokeDevice(context.Background(), "ada", testDevice, nil)
		},
		"a sign-in of its own": func(w *watched, c *sa.Client) {
			_, _ = c.IssueDevice(context.Background(), "ada", nil)
		},
		"claims of its own": func(_ *watched, c *sa.Client) {
			_, _ = c.UpdateSession(context.Background(), "ada", nil, nil)
		},
		"its own sign-out everywhere": func(_ *watched, c *sa.Client) {
			_, _ = c.RevokeAll(context.Background(), "ada", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			service := newWatched(t)
			service.issue = func(
				context.Context, *pb.IssueDeviceRequest,
			) (*pb.IssueDeviceResponse, error) {
				return &pb.IssueDeviceResponse{}, nil
			}
			quiet := sa.WithLogger(slog.New(slog.DiscardHandler))
			client := service.client(t, sa.WithCache(sa.CacheConfig{}), quiet)
			hits(t, client, "token")
			before := service.called("ValidateSession")
			change(service, client)
			eventually(t, "the service is asked", func() bool {
				_, err := client.ValidateSession(t.Context(), "token", testDevice, nil)
				return err == nil && service.called("ValidateSession") > before
			})
		})
	}
}

func TestWhatNeverComesFromTheCache(t *testing.T) {
	service := newWatched(t)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}))
	hits(t, client, "token")
	for name, opts := range map[string]*sa.ValidateSessionOptions{
		"observe only": {ObserveOnly: true}, "passive": {Passive: true},
	} {
		before := service.called("ValidateSession")
		if _, err := client.ValidateSession(t.Context(), "token", testDevice, opts); err != nil {
			t.Fatal(err)
		}
		if service.called("ValidateSession") == before {
			t.Errorf("%s: answered from the cache", name)
		}
	}
	before := service.called("ValidateSession")
	const other = "00000000-0000-4000-8000-000000000001"
	if _, err := client.ValidateSession(t.Context(), "token", other, nil); err != nil {
		t.Fatal(err)
	}
	if service.called("ValidateSession") == before {
		t.Error("the token of another device was answered from the cache")
	}
}

func TestAnAnswerFromBeforeAnEventIsNotKept(t *testing.T) {
	service := newWatched(t)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}))
	hits(t, client, "first")
	entered, leave := make(chan struct{}), make(chan struct{})
	service.validate = func(
		_ context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		response := active(r.GetDeviceId())
		entered <- struct{}{}
		<-leave
		return response, nil
	}
	done := make(chan sa.Validation)
	go func() {
		found, _ := client.ValidateSession(context.Background(), "second", testDevice, nil)
		done <- found
	}()
	<-entered
	dropped := client.CacheStats().Dropped.Event
	service.told <- event(pb.EventType_EVENT_TYPE_ALL_REVOKED, "ada")
	eventually(t, "the event was told", func() bool {
		return client.CacheStats().Dropped.Event > dropped
	})
	close(leave)
	if found := <-done; !found.Active {
		t.Errorf("got %+v", found)
	}
	if entries := client.CacheStats().Entries; entries != 0 {
		t.Error("an answer from before the revocation was kept")
	}
}

func TestCallersWithTheSameTokenShareACall(t *testing.T) {
	service := newWatched(t)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}))
	hits(t, client, "first")
	var asked atomic.Int32
	entered, leave := make(chan struct{}, 100), make(chan struct{})
	service.validate = func(
		_ context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		asked.Add(1)
		entered <- struct{}{}
		<-leave
		return active(r.GetDeviceId()), nil
	}
	misses := client.CacheStats().Misses
	first, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := client.ValidateSession(first, "token", testDevice, nil)
		gone <- err
	}()
	<-entered
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			found, err := client.ValidateSession(context.Background(), "token", testDevice, nil)
			if err != nil || !found.Active {
				t.Errorf("got %+v, %v", found, err)
			}
		})
	}
	eventually(t, "all have asked", func() bool { return client.CacheStats().Misses == misses+21 })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the first caller got %v", err)
	}
	close(leave)
	group.Wait()
	// A miss is counted before its caller joins a call. The scheduler may delay some callers
	// between these two steps until the call has ended: these callers share another call.
	if asked.Load() > 7 {
		t.Errorf("%d calls for one question of 21 callers", asked.Load())
	}
}

func TestNoCallerJoinsARequestFromBeforeAnEvent(t *testing.T) {
	service := newWatched(t)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}), sa.WithoutBatching())
	hits(t, client, "first")
	entered, leave := make(chan struct{}), make(chan struct{})
	service.validate = func(
		_ context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		entered <- struct{}{}
		<-leave
		return active(r.GetDeviceId()), nil
	}
	ask := func() { _, _ = client.ValidateSession(context.Background(), "token", testDevice, nil) }
	go ask()
	<-entered
	dropped := client.CacheStats().Dropped.Event
	service.told <- event(pb.EventType_EVENT_TYPE_ALL_REVOKED, "ada")
	eventually(t, "the event was told", func() bool {
		return client.CacheStats().Dropped.Event > dropped
	})
	go ask()
	select {
	case <-entered:
	case <-time.After(10 * time.Second):
		t.Error("the second caller does not ask by itself")
	}
	close(leave)
}

func TestACallerWithMoreTimeAsksAgain(t *testing.T) {
	service := newWatched(t)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}), sa.WithoutBatching())
	hits(t, client, "first")
	entered := make(chan struct{}, 100)
	var asked atomic.Int32
	service.validate = func(
		ctx context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		entered <- struct{}{}
		if asked.Add(1) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return active(r.GetDeviceId()), nil
	}
	go func() {
		_, _ = client.ValidateSession(context.Background(), "token", testDevice,
			&sa.ValidateSessionOptions{Timeout: 200 * time.Millisecond})
	}()
	<-entered
	found, err := client.ValidateSession(t.Context(), "token", testDevice, nil)
	if err != nil || !found.Active {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestWithoutARoleToWatchEveryValidationIsACall(t *testing.T) {
	service := newScripted(t)
	service.watch = func(
		*pb.WatchEventsRequest, grpc.ServerStreamingServer[pb.WatchEventsResponse],
	) error {
		return refusal(codes.PermissionDenied, "CALLER_NOT_ALLOWED")
	}
	lines := make(chan string, 100)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}),
		sa.WithLogger(slog.New(slog.NewTextHandler(lineWriter(lines), nil))))
	for range 5 {
		found, err := client.ValidateSession(t.Context(), "token", testDevice, nil)
		if err != nil || !found.Active {
			t.Fatalf("got %+v, %v", found, err)
		}
	}
	<-lines
	if client.CacheStats().Live || service.called("ValidateSession") != 5 {
		t.Errorf("got %+v after %d calls", client.CacheStats(), service.called("ValidateSession"))
	}
}

type lineWriter chan string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

func TestWrongLimitsOfACacheAreRefused(t *testing.T) {
	for _, config := range []sa.CacheConfig{
		{MaxEntries: -1}, {MaxAge: -1}, {MaxSilence: 16 * time.Second}, {MaxSilence: -1},
	} {
		if _, err := sa.NewClient("localhost:1", sa.WithCache(config)); err == nil {
			t.Errorf("no error for %+v", config)
		}
	}
}

func TestAHitAllocatesNothing(t *testing.T) {
	service := newWatched(t)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}))
	hits(t, client, "token")
	ctx := t.Context()
	agent := "Mozilla/5.0"
	allocations := testing.AllocsPerRun(100, func() {
		opts := sa.ValidateSessionOptions{Client: sa.ClientInfo{UserAgent: agent}}
		if _, err := client.ValidateSession(ctx, "token", testDevice, &opts); err != nil {
			t.Fatal(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations for a hit", allocations)
	}
}
