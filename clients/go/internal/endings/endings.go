package endings

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// No request waits for a check, so a check may take longer than the calls of a request.
const checkTimeout = 2 * time.Second

// ErrClosed means that Close was called.
var ErrClosed = errors.New("endings: closed")

// Service has the calls that Endings makes. A *sessionauthority.Client is a Service.
type Service interface {
	CheckSessions(ctx context.Context, names []sessionauthority.SessionName,
		opts *sessionauthority.ManyOptions) ([]sessionauthority.StateResult, error)
	WatchEvents(ctx context.Context, opts *sessionauthority.WatchEventsOptions,
	) iter.Seq2[*sessionauthority.EventBatch, error]
}

// Endings calls the listeners of connections when their sessions have ended. While no connection
// listens, it has no goroutine and makes no call.
type Endings struct {
	service Service
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mutex     sync.Mutex
	sessions  openSessions
	isRunning bool
	isClosed  bool
	wake      chan struct{}
	logged    string
}

// New returns Endings without listeners.
func New(service Service, log *slog.Logger) *Endings {
	made := &Endings{service: service, log: log, wake: make(chan struct{}, 1)}
	made.ctx, made.cancel = context.WithCancel(context.Background())
	made.sessions.ofUser = map[string]map[string]*openSession{}
	made.sessions.interval = maxSilence
	return made
}

// Listen calls told once when the session has ended. told must not block. The returned function
// stop removes the listener. The error is ErrClosed.
func (e *Endings) Listen(
	session *sessionauthority.Session, told func(),
) (stop func(), err error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.isClosed {
		return nil, ErrClosed
	}
	own := &listener{told}
	opened := e.sessions.listen(session, own, time.Now())
	if !e.isRunning {
		e.isRunning = true
		ctx, cancel := context.WithCancel(e.ctx)
		e.work.Add(2)
		go e.keepWatching(ctx)
		go e.keepAsking(cancel)
	}
	e.rouse()
	return func() {
		e.mutex.Lock()
		defer e.mutex.Unlock()
		e.sessions.stop(opened, own, time.Now())
		e.rouse()
	}, nil
}

// Doubt plans checks of a user's sessions, because this app has changed some of them, or tried to.
func (e *Endings) Doubt(userID string) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.sessions.doubt(userID, time.Now())
	e.rouse()
}

// Close ends all watches and checks. It calls no listener, because it is unknown whether their
// sessions have ended.
func (e *Endings) Close() {
	e.mutex.Lock()
	e.isClosed = true
	e.mutex.Unlock()
	e.cancel()
	e.work.Wait()
}

// rouse wakes keepAsking, so that it reads the schedule again.
func (e *Endings) rouse() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// keepAsking checks sessions when they are due, while there are any.
func (e *Endings) keepAsking(stopWatching context.CancelFunc) {
	defer e.work.Done()
	defer stopWatching()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e.mutex.Lock()
		taken := e.sessions.takeDue(time.Now())
		if len(e.sessions.ofUser) == 0 || e.isClosed {
			e.isRunning = false
			e.sessions.isLive = false
			e.mutex.Unlock()
			return
		}
		if len(taken.sessions) > 0 {
			e.mutex.Unlock()
			e.ask(taken)
			continue
		}
		timer.Reset(time.Until(e.sessions.schedule[0].due))
		e.mutex.Unlock()
		select {
		case <-timer.C:
		case <-e.wake:
		case <-e.ctx.Done():
		}
	}
}

func (e *Endings) ask(asked round) {
	names := make([]sessionauthority.SessionName, len(asked.sessions))
	for index, opened := range asked.sessions {
		names[index] = opened.name
	}
	results, err := e.service.CheckSessions(e.ctx, names,
		&sessionauthority.ManyOptions{Timeout: checkTimeout})
	if err == nil && len(results) != len(names) {
		err = fmt.Errorf("%d answers for %d sessions", len(results), len(names))
	}
	e.mutex.Lock()
	var ended []*listener
	if err == nil {
		ended, err = e.sessions.answered(asked, results, time.Now())
	} else {
		ended = e.sessions.unanswered(asked.sessions, time.Now(), e.pauseAfter(err))
	}
	e.note(err)
	e.mutex.Unlock()
	tellAll(ended)
}

// pauseAfter returns the shortest pause after a failure. If the service is too old, or refuses this
// caller, another check at once would not help.
func (e *Endings) pauseAfter(err error) time.Duration {
	var failed *sessionauthority.Error
	if !errors.As(err, &failed) {
		return 0
	}
	switch failed.Code {
	case codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
		return e.sessions.interval
	}
	if failed.RetryAfter != nil {
		return *failed.RetryAfter
	}
	return 0
}

// note logs the first of several failures with the same reason.
func (e *Endings) note(err error) {
	why := ""
	if err != nil && e.ctx.Err() == nil {
		why = err.Error()
		if why != e.logged {
			e.log.Warn("open connections don't learn whether their sessions live", "error", err)
		}
	}
	e.logged = why
}

// keepWatching reads events while there is an open session.
func (e *Endings) keepWatching(ctx context.Context) {
	defer e.work.Done()
	pause := firstPause
	for ctx.Err() == nil {
		isRefused, wasLive := e.watchOnce(ctx)
		switch {
		case isRefused:
			pause = unwatchedInterval
		case wasLive:
			pause = firstPause
		default:
			pause = min(2*pause, longPause)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// watchOnce reads one watch to its end. A watch that proves nothing for maxSilence counts as
// broken.
func (e *Endings) watchOnce(ctx context.Context) (isRefused, wasLive bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(maxSilence, cancel)
	defer silence.Stop()
	watch := 0
	for batch, err := range e.service.WatchEvents(ctx, nil) {
		if err != nil {
			isRefused = errors.Is(err, sessionauthority.ErrCallerNotAllowed)
			break
		}
		silence.Reset(maxSilence)
		e.mutex.Lock()
		now := time.Now()
		if !wasLive {
			wasLive = true
			watch = e.sessions.began(now)
		}
		ended := e.sessions.tell(batch.Events, now)
		e.rouse()
		e.mutex.Unlock()
		tellAll(ended)
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	interval := maxSilence
	if isRefused {
		interval = unwatchedInterval
	}
	e.sessions.lost(watch, time.Now(), interval)
	e.rouse()
	return isRefused, wasLive
}

// tellAll calls the listeners. Its caller must not hold the lock.
func tellAll(listeners []*listener) {
	for _, each := range listeners {
		each.told()
	}
}
