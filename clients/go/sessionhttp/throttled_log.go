package sessionhttp

import (
	"log/slog"
	"sync"
	"time"
)

const pauseBetweenLines = time.Minute

// throttledLog writes log lines about a state that lasts, such as an outage. Even if each request
// notices the state, throttledLog writes at most one line with the same text in a minute.
type throttledLog struct {
	log   *slog.Logger
	now   func() time.Time
	mutex sync.Mutex
	next  map[string]time.Time
}

func newThrottledLog(log *slog.Logger, now func() time.Time) *throttledLog {
	return &throttledLog{log: log, now: now, next: map[string]time.Time{}}
}

// error writes a log line at level ERROR, unless a line with the same text was written within the
// last minute.
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
