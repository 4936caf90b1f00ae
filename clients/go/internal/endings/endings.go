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

// checkTimeout is the timeout of one CheckSessions. No end user's request waits for this call, so
// the timeout may be longer than the client's default timeout.
const checkTimeout = 2 * time.Second

// ErrClosed is the error of Listen after Close was called.
var ErrClosed = errors.New("endings: closed")

// Service has the methods of the Session Authority that Endings calls. *sessionauthority.Client
// implements Service.
type Service interface {
	CheckSessions(ctx context.Context, names []sessionauthority.SessionName,
		opts *sessionauthority.ManyOptions) ([]sessionauthority.StateResult, error)
	WatchEvents(ctx context.Context, opts *sessionauthority.WatchEventsOptions,
	) iter.Seq2[*sessionauthority.EventBatch, error]
}

// Endings finds out when the sessions of open connections end, and then calls the listeners of
// these connections. The goroutines of Endings run while there are listeners, and for some time
// after the last listener was removed.
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

// Listen adds the function told as a listener: Endings calls told once when the session has ended.
// told must not block. The returned function stop removes the listener. Listen returns ErrClosed if
// Close was called.
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

// Doubt makes Endings check the open sessions of a user at once. Call Doubt after this app has
// changed, or has tried to change, sessions of the user.
func (e *Endings) Doubt(userID string) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.sessions.doubt(userID, time.Now())
	e.rouse()
}

// Close ends the watch and the checks, and waits until their goroutines have ended. Close calls no
// listener, because it is unknown whether the sessions have ended.
func (e *Endings) Close() {
	e.mutex.Lock()
	e.isClosed = true
	e.mutex.Unlock()
	e.cancel()
	e.work.Wait()
}

// rouse wakes keepAsking, so that keepAsking reads the changed schedule.
func (e *Endings) rouse() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// keepAsking checks each session when its check is due. It returns when there are no open sessions
// any more, or when Close was called. keepAsking calls stopWatching before it returns.
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

// pauseAfter returns the minimum pause before the next check, after CheckSessions failed with err.
// If the service is too old to have CheckSessions, or refuses this caller, an early check would
// fail again. In these two cases the pause is the whole interval of checks.
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

// note logs err, unless the last check failed with the same text. err is nil if the check
// succeeded.
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

// keepWatching reads one watch after another, with pauses between them, until ctx ends.
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

// watchOnce reads one watch to its end. If the watch sends no message for maxSilence, watchOnce
// ends it. isRefused is true if this caller may not watch events. wasLive is true if the watch has
// sent a message.
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

// tellAll calls the listeners. The mutex of Endings must not be locked when tellAll is called.
func tellAll(listeners []*listener) {
	for _, each := range listeners {
		each.told()
	}
}
