package sessionhttp

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// ClockTolerance is how far the clocks of the app and of the service may differ: as far as the
// service lets tokens live on. With less, an app whose clock is fast would send users to sign in
// again and again.
const ClockTolerance = 30 * time.Second

const maxQueryFields = 100

// The service has the same rule.
var (
	methodForm  = regexp.MustCompile(`^[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,128}$`)
	secondsForm = regexp.MustCompile(`^[0-9]{1,9}$`)
)

// StepUp is what a sign-in must be for a page (RFC 9470).
type StepUp struct {
	// MaxAge is how long ago the sign-in may be; nil means that its age does not matter.
	MaxAge *time.Duration
	// AuthMethods has methods (RFC 8176) of which one at least must have been used. Empty means
	// that the methods do not matter.
	AuthMethods []string
}

// Demand is what Visit.Require wants of a sign-in beside a good session.
type Demand func(*StepUp) error

// MaxAge demands a sign-in that is at most so old. Zero demands one of this moment. The clocks of
// the app and the service may differ by ClockTolerance.
func MaxAge(age time.Duration) Demand {
	return func(wanted *StepUp) error {
		if age < 0 {
			return errors.New("MaxAge: must not be negative")
		}
		wanted.MaxAge = &age
		return nil
	}
}

// AuthMethods demands a sign-in by one of these methods (RFC 8176), such as "otp". Where each of
// two is needed, require one after the other.
func AuthMethods(methods ...string) Demand {
	return func(wanted *StepUp) error {
		if len(methods) == 0 {
			return errors.New("AuthMethods: must not be empty")
		}
		for _, method := range methods {
			if !methodForm.MatchString(method) {
				return fmt.Errorf("AuthMethods: each must be 1 to 128 letters, digits or"+
					" characters of a URI, not %q", method)
			}
			if !slices.Contains(wanted.AuthMethods, method) {
				wanted.AuthMethods = append(wanted.AuthMethods, method)
			}
		}
		return nil
	}
}

// seconds returns the age in whole seconds, as RFC 9470 and OpenID Connect have it.
func (s *StepUp) seconds() (int64, bool) {
	if s.MaxAge == nil {
		return 0, false
	}
	return int64(*s.MaxAge / time.Second), true
}

// query returns the fields for the query of the sign-in page: the reason for which a user who is
// signed in comes.
func (s *StepUp) query() string {
	fields := "reason=step_up"
	if seconds, has := s.seconds(); has {
		fields += "&max_age=" + strconv.FormatInt(seconds, 10)
	}
	if len(s.AuthMethods) > 0 {
		fields += "&auth_methods=" + requests.Quote(strings.Join(s.AuthMethods, " "), "")
	}
	return fields
}

// lackOf returns what a sign-in lacks that happened so long ago by these methods, in words. It is
// empty if it lacks nothing. A sign-in of the future is recent: the clock of the app is slow.
func (s *StepUp) lackOf(age time.Duration, methods []string) string {
	isOld := s.MaxAge != nil && age-ClockTolerance > *s.MaxAge
	isWeak := len(s.AuthMethods) > 0
	for _, method := range methods {
		isWeak = isWeak && !slices.Contains(s.AuthMethods, method)
	}
	if !isOld && !isWeak {
		return ""
	}
	lack := "A sign-in"
	if isOld {
		lack = "A more recent sign-in"
	}
	lack += " is required"
	if isWeak {
		lack += " by one of these methods: " + strings.Join(s.AuthMethods, ", ")
	}
	return lack
}

// stepUpIn returns what the query of a target says of the sign-in that is wanted, nil if it is no
// step-up. Anybody can write a query, so what is none of ours is left out.
func stepUpIn(target string) *StepUp {
	fields, known := requests.Fields(requests.Query(target), maxQueryFields, false)
	if !known || !slices.Contains(fields, requests.Field{Name: "reason", Value: "step_up"}) {
		return nil
	}
	var wanted StepUp
	for _, field := range fields {
		switch field.Name {
		case "max_age":
			wanted.MaxAge = nil
			if secondsForm.MatchString(field.Value) {
				seconds, _ := strconv.ParseInt(field.Value, 10, 64)
				age := time.Duration(seconds) * time.Second
				wanted.MaxAge = &age
			}
		case "auth_methods":
			wanted.AuthMethods = nil
			for _, method := range strings.Split(field.Value, " ") {
				if methodForm.MatchString(method) && !slices.Contains(wanted.AuthMethods, method) {
					wanted.AuthMethods = append(wanted.AuthMethods, method)
				}
			}
		}
	}
	return &wanted
}
