package sessionauthority

import (
	"context"
	"errors"
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

const (
	firstWatchPause = 100 * time.Millisecond
	maxWatchPause   = 5 * time.Second
)

var errSilentWatch = errors.New("the watch proved nothing for too long, or clocks ran apart")

// startWatching starts a goroutine that passes the events of a watch to the cache. The watch has a
// connection of its own. When the watch ends, the goroutine starts another watch, until the client
// is closed.
//
// When a watch ends, the cache drops all answers. An empty cache needs no earlier events, so each
// watch starts at the present moment. If a watch sends no proof for too long (see
// CacheConfig.MaxSilence), it counts as broken. After any failure the cache is off until the next
// watch has sent a proof. The log says that the cache is off.
func (k *cacheKeeper) startWatching() {
	if !k.client.enter() {
		return
	}
	go func() {
		defer k.client.leave()
		k.keepWatching()
	}()
}

func (k *cacheKeeper) keepWatching() {
	c := k.client
	defer k.kept.Lost(false)
	pauses := watchPauses{log: c.settings.logger, pause: firstWatchPause}
	conn, err := c.settings.transport.Open()
	if err != nil { // not expected: NewClient opened a connection with the same settings
		pauses.next(err)
		return
	}
	defer func() { _ = conn.Close() }()
	service := pb.NewSessionAuthorityServiceClient(conn)
	for {
		err := k.watch(service, &pauses)
		k.kept.Lost(errors.Is(err, ErrCursorExpired))
		if c.closed() || !sleep(c.ending, pauses.next(err)) {
			return
		}
	}
}

func (k *cacheKeeper) watch(
	service pb.SessionAuthorityServiceClient, pauses *watchPauses,
) error {
	ctx, cancel := context.WithCancelCause(k.client.ending)
	defer cancel(nil)
	k.kept.Begin()
	silence := time.AfterFunc(k.kept.TimeLeft(), func() { cancel(errSilentWatch) })
	defer silence.Stop()
	err := k.client.readWatch(ctx, service, &pb.WatchEventsRequest{},
		func(message *pb.WatchEventsResponse) bool {
			k.kept.Tell(message)
			silence.Reset(k.kept.TimeLeft())
			pauses.reset()
			return true
		})
	return endOfWatch(ctx, err, k.client.closed())
}

// endOfWatch returns the error that ended a watch. It returns nil if the service ended the watch
// without an error.
//
// ErrCursorExpired may mean that the store has another primary now. After such a change, the cache
// must store no answers for some time. So endOfWatch returns ErrCursorExpired even if the client
// gave up the silent watch at the same moment.
func endOfWatch(ctx context.Context, err error, closed bool) error {
	if err != nil {
		err = failureOf(ctx, err, closed)
	}
	if !errors.Is(err, ErrCursorExpired) && errors.Is(context.Cause(ctx), errSilentWatch) {
		return errSilentWatch
	}
	return err
}
