package sessionauthority

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// watchPauses decides how long the near cache waits between the end of a watch and the next watch.
// It also logs when the cache goes off and when it is on again. It does not log the same reason
// twice in a row.
type watchPauses struct {
	log    *slog.Logger
	pause  time.Duration
	logged string
}

// reset notes that the watch has sent a message. The next pause will be short again.
func (p *watchPauses) reset() {
	p.pause = firstWatchPause
	if p.logged != "" {
		p.logged = ""
		p.log.Info("the near cache is on again")
	}
}

// next notes that a watch has ended with err. If the service ended the watch without an error, err
// is nil. next returns how long to wait before the next watch starts.
//
// The pauses are random, so that clients that lost the same server don't all start new watches at
// the same moment.
func (p *watchPauses) next(err error) time.Duration {
	why := "the watch was ended"
	if err != nil {
		why = err.Error()
	}
	if why != p.logged {
		p.logged = why
		p.log.Warn("the near cache is off until it can watch again", "reason", why)
	}
	if errors.Is(err, ErrCallerNotAllowed) || errors.Is(err, ErrCallerUnknown) {
		p.pause = maxWatchPause
	}
	pause := time.Duration(float64(p.pause) * (0.5 + rand.Float64()))
	p.pause = min(p.pause*2, maxWatchPause)
	return pause
}
