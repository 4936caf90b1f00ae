package sessionhttp

import (
	"errors"
	"strconv"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// idleLimit returns the idle timeout for a second try, after the service has refused the idle
// timeout asked. err is the error of the sign-in. If asked is too long, the result is the longest
// idle timeout that the service accepts. If asked is too short and lengthen is true, the result is
// the shortest idle timeout that the service accepts. The second result is false if no idle timeout
// would help, for example if err is nil or has another reason.
func idleLimit(err error, asked time.Duration, lengthen bool) (time.Duration, bool) {
	var failed *sessionauthority.Error
	isBroken := errors.Is(err, sessionauthority.ErrInvalidRequest) && errors.As(err, &failed) &&
		len(failed.Violations) == 1 && failed.Violations[0].Field == "idle_timeout"
	if asked == 0 || !isBroken {
		return 0, false
	}
	shortest, err := secondsIn(failed.Metadata["min_seconds"])
	if err != nil {
		return 0, false
	}
	longest, err := secondsIn(failed.Metadata["max_seconds"])
	switch {
	case err != nil:
		return 0, false
	case asked > longest:
		return longest, true
	}
	return shortest, lengthen && asked < shortest
}

func secondsIn(text string) (time.Duration, error) {
	seconds, err := strconv.ParseInt(text, 10, 32)
	return time.Duration(seconds) * time.Second, err
}
