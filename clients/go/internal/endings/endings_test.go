package endings

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

const patience = 20 * time.Second

var start = time.Unix(1_800_000_000, 0)

func session(id string) *sessionauthority.Session {
	return &sessionauthority.Session{
		UserID: "ada", DeviceID: "device", SessionID: id, AbsoluteExpireTime: start.Add(time.Hour),
	}
}

func memory() *openSessions {
	return &openSessions{ofUser: map[string]map[string]*openSession{}, interval: maxSilence}
}

func alive(asked round) []sessionauthority.StateResult {
	results := make([]sessionauthority.StateResult, len(asked.sessions))
	for index := range results {
		results[index].State = sessionauthority.SessionState{
			Status: sessionauthority.StatusActive, ExpireTime: start.Add(30 * time.Minute),
		}
	}
	return results
}

// settled returns openSessions with one session. The service has answered that this session is
// live.
func settled(isWatched bool) (*openSessions, *listener) {
	o, own := memory(), &listener{}
	if isWatched {
		o.began(start)
	}
	o.listen(session("one"), own, start)
	asked := o.takeDue(start)
	o.answered(asked, alive(asked), start)
	return o, own
}

func TestASessionIsCheckedWhenItsConnectionOpens(t *testing.T) {
	o := memory()
	o.listen(session("one"), &listener{}, start)
	if asked := o.takeDue(start); len(asked.sessions) != 1 {
		t.Error(asked)
	}
	if again := o.takeDue(start); len(again.sessions) != 0 {
		t.Error("the session is checked twice at the same time")
	}
}

func TestASessionIsCheckedOnceInAnIntervalUnlessAWatchIsLive(t *testing.T) {
	for _, each := range []struct {
		isWatched bool
		after     time.Duration
		due       int
	}{
		{false, maxSilence - 1, 0}, {false, maxSilence, 1},
		{true, maxSilence, 0}, {true, 30*time.Minute - 1, 0}, {true, 30 * time.Minute, 1},
	} {
		o, _ := settled(each.isWatched)
		if asked := o.takeDue(start.Add(each.after)); len(asked.sessions) != each.due {
			t.Errorf("%+v: %d", each, len(asked.sessions))
		}
	}
}

func TestASessionIsCheckedAgainIfAWatchBeganAfterTheRequest(t *testing.T) {
	o := memory()
	watch := o.began(start)
	o.listen(session("one"), &listener{}, start)
	asked := o.takeDue(start)
	o.lost(watch, start, maxSilence)
	o.began(start) // another watch, which does not bring the events from between the two watches
	o.answered(asked, alive(asked), start)
	if asked := o.takeDue(start.Add(time.Second)); len(asked.sessions) != 1 {
		t.Error("the session is trusted")
	}
}

func TestALateEndOfAnOldWatchDoesNotStopANewOne(t *testing.T) {
	o := memory()
	old := o.began(start)
	o.began(start)
	o.lost(old, start, maxSilence)
	if !o.isLive {
		t.Error("the new watch is given up")
	}
}

func TestEventsEndSessionsOrCauseChecks(t *testing.T) {
	event := func(kind sessionauthority.EventType, user, id, device string) sessionauthority.Event {
		return sessionauthority.Event{Type: kind, UserID: user, SessionID: id, DeviceID: device}
	}
	for _, each := range []struct {
		event       sessionauthority.Event
		ended, asks int
	}{
		{event(sessionauthority.EventDeviceRevoked, "ada", "one", "device"), 1, 0},
		{event(sessionauthority.EventDeviceEvicted, "ada", "one", "device"), 1, 0},
		{event(sessionauthority.EventDeviceRevoked, "ada", "two", "device"), 0, 0},
		{event(sessionauthority.EventDeviceRevoked, "ada", "", "device"), 0, 1},
		{event(sessionauthority.EventDeviceRevoked, "bob", "one", "device"), 0, 0},
		{event(sessionauthority.EventAllRevoked, "ada", "", ""), 0, 1},
		{event(sessionauthority.EventSessionReplayed, "ada", "one", ""), 0, 1},
		{event(sessionauthority.EventUnspecified, "ada", "", ""), 0, 1},
		{event(sessionauthority.EventUnspecified, "", "", ""), 0, 1},
		{event(sessionauthority.EventSigningKeyRevoked, "", "", ""), 0, 0},
		{event(sessionauthority.EventDeviceSignedIn, "ada", "one", "device"), 0, 0},
		{event(sessionauthority.EventDeviceSignedIn, "ada", "two", "device"), 0, 1},
		{event(sessionauthority.EventDeviceSignedIn, "ada", "two", "other"), 0, 0},
		{event(sessionauthority.EventDeviceSignedIn, "ada", "two", ""), 0, 1},
		{event(sessionauthority.EventEndedTokenPresented, "ada", "one", ""), 0, 0},
		{event(sessionauthority.EventSupersededTokenPresented, "ada", "one", ""), 0, 0},
	} {
		o, _ := settled(true)
		ended := o.tell([]sessionauthority.Event{each.event}, start)
		asked := o.takeDue(start)
		if len(ended) != each.ended || len(asked.sessions) != each.asks {
			t.Errorf("%v %+v: %d ended, %d asked for", each.event.Type, each.event, len(ended),
				len(asked.sessions))
		}
	}
}

func TestAnAnswerEndsASessionAndAnOutageDoesNot(t *testing.T) {
	o, own := settled(false)
	asked := o.takeDue(start.Add(maxSilence))
	if ended := o.unanswered(asked.sessions, start.Add(maxSilence), 0); len(ended) > 0 {
		t.Error("an outage ends a session")
	}
	asked = o.takeDue(start.Add(maxSilence + longPause))
	results := []sessionauthority.StateResult{{State: sessionauthority.SessionState{
		Status: sessionauthority.StatusSessionEnded,
	}}}
	ended, err := o.answered(asked, results, start)
	if len(ended) != 1 || ended[0] != own || err != nil || len(o.ofUser) != 0 {
		t.Error(ended, err, o.ofUser)
	}
}

func TestASessionWhoseCheckFailedIsCheckedAgain(t *testing.T) {
	o, _ := settled(false)
	asked := o.takeDue(start.Add(maxSilence))
	wrong := errors.New("this item alone")
	ended, err := o.answered(asked, []sessionauthority.StateResult{{Err: wrong}}, start)
	if len(ended) > 0 || !errors.Is(err, wrong) || len(o.takeDue(start.Add(longPause)).sessions) != 1 {
		t.Error(ended, err)
	}
}

func TestNothingPutsOffTheAbsoluteEnd(t *testing.T) {
	o, _ := settled(false)
	asked := o.takeDue(start.Add(time.Hour))
	if ended := o.unanswered(asked.sessions, start.Add(time.Hour), 0); len(ended) != 1 {
		t.Error("it goes on for ever in an outage")
	}
}

func TestASessionWithoutListenersIsForgotten(t *testing.T) {
	o := memory()
	own := &listener{}
	opened := o.listen(session("one"), own, start)
	asked := o.takeDue(start)
	o.answered(asked, alive(asked), start)
	o.stop(opened, own, start)
	o.stop(opened, own, start)
	if taken := o.takeDue(start.Add(maxSilence)); len(taken.sessions) != 0 || len(o.ofUser) != 0 {
		t.Error(taken, o.ofUser)
	}
}

// cutWatch is a service that counts its calls. Each check answers with status. If err is set, each
// watch ends at once with err.
type cutWatch struct {
	status  atomic.Int32
	asked   atomic.Int32
	watches atomic.Int32
	err     error
}

func (c *cutWatch) CheckSessions(
	_ context.Context, names []sessionauthority.SessionName, _ *sessionauthority.ManyOptions,
) ([]sessionauthority.StateResult, error) {
	c.asked.Add(1)
	results := make([]sessionauthority.StateResult, len(names))
	for index := range results {
		results[index].State.Status = sessionauthority.SessionStatus(c.status.Load())
		results[index].State.ExpireTime = time.Now().Add(time.Hour)
	}
	return results, nil
}

func (c *cutWatch) WatchEvents(
	ctx context.Context, _ *sessionauthority.WatchEventsOptions,
) iter.Seq2[*sessionauthority.EventBatch, error] {
	return func(yield func(*sessionauthority.EventBatch, error) bool) {
		c.watches.Add(1)
		if c.err == nil && yield(&sessionauthority.EventBatch{}, nil) {
			<-ctx.Done()
		}
		yield(nil, errors.Join(c.err, ctx.Err()))
	}
}

func TestClosedEndingsHaveNoGoroutine(t *testing.T) {
	service := &cutWatch{}
	service.status.Store(int32(sessionauthority.StatusActive))
	e := New(service, slog.New(slog.DiscardHandler))
	stop, err := e.Listen(session("one"), func() { t.Error("it has not ended") })
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a check", func() bool { return service.asked.Load() > 0 })
	stop()
	e.Close()
	if _, err := e.Listen(session("one"), func() {}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if strings.Contains(string(stacks), "endings.(*Endings)") {
		t.Error("a goroutine is left:\n" + string(stacks))
	}
}

func TestDoubtChecksASessionAtOnce(t *testing.T) {
	service := &cutWatch{err: sessionauthority.ErrCallerNotAllowed}
	service.status.Store(int32(sessionauthority.StatusActive))
	e := New(service, slog.New(slog.DiscardHandler))
	defer e.Close()
	ended := make(chan struct{})
	if _, err := e.Listen(session("one"), func() { close(ended) }); err != nil {
		t.Fatal(err)
	}
	await(t, "a check", func() bool { return service.asked.Load() > 0 })
	service.status.Store(int32(sessionauthority.StatusSessionEnded))
	e.Doubt("ada")
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the session is not asked for")
	}
	if watches := service.watches.Load(); watches != 1 {
		t.Errorf("a caller that may not watch tries it %d times", watches)
	}
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
