package sessionhttp

import (
	"context"
	"sync"
)

// singleFlight lets callers with the same key share one call. A caller joins only a call that has
// not begun, and never a call that is already under way. A call that began before the caller's
// request might miss a sign-out that happened before that request. If a call for a key is under
// way, the next call for this key begins after the end of the first call.
type singleFlight[T any] struct {
	mutex sync.Mutex
	open  map[flightKey]*flight[T] // the calls that have not begun, which callers may join
	begun map[flightKey]*flight[T] // the calls under way, which callers may not join
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

// share returns the result of a call for this key: of an open call, or else of a new call. If ctx
// is done first, share returns the error of ctx, and the call goes on.
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
