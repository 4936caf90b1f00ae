package sessionhttp

import (
	"log/slog"
	"sync"
	"time"
)

const pauseBetweenLines = time.Minute

// throttledLog writes log lines about a state that lasts, such as an outage: one line when the
// state is noticed, and at most one line a minute, not one for each request.
type throttledLog struct {
	log   *slog.Logger
	now   func() time.Time
	mutex sync.Mutex
	next  map[string]time.Time
}

func newThrottledLog(log *slog.Logger, now func() time.Time) *throttledLog {
	return &throttledLog{log: log, now: now, next: map[string]time.Time{}}
}

// error writes a line, unless one with this text was written within the last minute.
func (t *throttledLog) error(text string, values ...any) {
	t.mutex.Lock()
	now := t.now()
	isDue := !now.Before(t.next[text])
	if isDue {
		t.next[text] = now.Add(pauseBetweenLines)
	}
	t.mutex.Unlock()
	if isDue {
		t.log.Error(text, values...)
	}
}
