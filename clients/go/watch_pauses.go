package sessionauthority

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// watchPauses decides how long to pause between two watches. The log says once that watching fails,
// and once that it works again.
type watchPauses struct {
	log    *slog.Logger
	pause  time.Duration
	logged string
}

// reset notes that the watch works.
func (p *watchPauses) reset() {
	p.pause = firstWatchPause
	if p.logged != "" {
		p.logged = ""
		p.log.Info("the near cache is on again")
	}
}

// next notes that a watch has ended. It returns how long to wait before the next watch starts.
//
// The pauses are random: caches that lost a server together must not come back together.
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
