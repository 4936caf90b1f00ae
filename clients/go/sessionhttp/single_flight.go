package sessionhttp

import (
	"context"
	"sync"
)

// singleFlight lets callers that need the same result share one call. A caller joins only a call
// that has not begun, so the result is never older than the caller's request. A renewal that was
// sent earlier might not know of a sign-out that this request must not miss. A joined call begins
// when the call under way has ended.
type singleFlight[T any] struct {
	mutex sync.Mutex
	open  map[flightKey]*flight[T] // the calls that have not begun: callers may join them
	begun map[flightKey]*flight[T] // the calls under way: callers may not join them
}

type flightKey struct {
	token, device string
	passive       bool
}

type flight[T any] struct {
	done   chan struct{}
	result T
	err    error
}

// share returns the result of the call for a key. The call continues even if this caller's context
// is done.
func (s *singleFlight[T]) share(
	ctx context.Context, key flightKey, call func(context.Context) (T, error),
) (T, error) {
	s.mutex.Lock()
	if s.open == nil {
		s.open, s.begun = map[flightKey]*flight[T]{}, map[flightKey]*flight[T]{}
	}
	joined, isOpen := s.open[key]
	if !isOpen {
		joined = &flight[T]{done: make(chan struct{})}
		s.open[key] = joined
		go s.make(context.WithoutCancel(ctx), key, joined, s.begun[key], call)
	}
	s.mutex.Unlock()
	select {
	case <-joined.done:
		return joined.result, joined.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (s *singleFlight[T]) make(
	ctx context.Context, key flightKey, own, before *flight[T],
	call func(context.Context) (T, error),
) {
	if before != nil {
		<-before.done
	}
	s.mutex.Lock()
	delete(s.open, key)
	s.begun[key] = own
	s.mutex.Unlock()
	defer func() {
		s.mutex.Lock()
		if s.begun[key] == own {
			delete(s.begun, key)
		}
		s.mutex.Unlock()
		close(own.done)
	}()
	own.result, own.err = call(ctx)
}
