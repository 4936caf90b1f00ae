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

// ClockTolerance is the accepted difference between the clocks of the app and of the service. The
// service accepts a token for the same time after its expiry. Without ClockTolerance, an app with a
// fast clock might find each new sign-in too old, and send users to the sign-in again and again.
const ClockTolerance = 30 * time.Second

const maxQueryFields = 100

// methodForm is the form of an authentication method. The service has the same rule.
var (
	methodForm  = regexp.MustCompile(`^[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,128}$`)
	secondsForm = regexp.MustCompile(`^[0-9]{1,9}$`)
)

// StepUp describes the sign-in that a page requires (RFC 9470).
type StepUp struct {
	// MaxAge is the maximum age of the sign-in. nil means that the sign-in may have any age.
	MaxAge *time.Duration
	// AuthMethods has authentication methods (RFC 8176), such as "otp". The sign-in must have used
	// at least one of these methods. Empty means that the sign-in may have used any method.
	AuthMethods []string
}

// Demand is a requirement that an app passes to Visit.Require, in addition to a good session.
type Demand func(*StepUp) error

// MaxAge demands a sign-in that is not older than age. ClockTolerance is added to age, because the
// clocks of the app and the service may differ. For example, MaxAge(0) accepts a sign-in of the
// last 30 seconds.
func MaxAge(age time.Duration) Demand {
	return func(wanted *StepUp) error {
		if age < 0 {
			return errors.New("MaxAge: must not be negative")
		}
		wanted.MaxAge = &age
		return nil
	}
}

// AuthMethods demands a sign-in by one of these methods (RFC 8176), such as "otp". If the app needs
// two methods together, it must call Visit.Require once for each method. In a single call of
// Visit.Require, one of all demanded methods is enough.
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

// seconds returns the maximum age in whole seconds, rounded down, as in RFC 9470 and OpenID
// Connect. The second result is false if there is no maximum age.
func (s *StepUp) seconds() (int64, bool) {
	if s.MaxAge == nil {
		return 0, false
	}
	return int64(*s.MaxAge / time.Second), true
}

// query returns the fields for the query of the sign-in page. The fields tell the sign-in page why
// a signed-in user must sign in again.
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

// lackOf returns a sentence that says which sign-in is required. The sentence is empty if a sign-in
// of this age and by these methods meets the StepUp. If age is negative, the sign-in counts as
// recent, because the app's clock may be slow.
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

// stepUpIn returns the StepUp in the query of a target, or nil if the query has no StepUp. An
// attacker can write the query, so stepUpIn ignores malformed values.
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
