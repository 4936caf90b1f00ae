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
// connection of its own, and starts anew whenever it ends.
//
// A cache whose watch broke is empty, so there is nothing to resume: each watch starts at the
// present moment. A watch that proves nothing for too long counts as broken. After any failure the
// cache is off until the next watch works, and the log says so.
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
	if err != nil { // not expected: the client's own connection was opened in the same way
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

// endOfWatch returns the reason why a watch has ended. It returns nil if the service ended the
// watch.
//
// ErrCursorExpired means that the store's history has changed. This reason goes before all others,
// even if the watch was given up at the same moment, because no answer may be kept for some time
// after it.
func endOfWatch(ctx context.Context, err error, closed bool) error {
	if err != nil {
		err = failureOf(ctx, err, closed)
	}
	if !errors.Is(err, ErrCursorExpired) && errors.Is(context.Cause(ctx), errSilentWatch) {
		return errSilentWatch
	}
	return err
}
