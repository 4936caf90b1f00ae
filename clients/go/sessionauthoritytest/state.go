package sessionauthoritytest

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// session is one sign-in of a user on a device.
type session struct {
	userID      string
	deviceID    string
	sessionID   string
	claims      map[string]string
	authMethods []string
	signedInAt  time.Time
	endsAt      time.Time
	replaced    *session
	idleTimeout time.Duration // 0: no idle timeout
	generation  uint32
	renewedAt   time.Time
	lastSeenAt  time.Time
	firstSeenAt time.Time // zero: the generation is not seen yet
	toldAt      time.Time
	holder      *copyMark
	predecessor *copyMark
	updated     map[string]string // the claims of the last UpdateSession, or nil
	newerClaims bool
}

// expiresAt returns the time when the session ends if it is not used again.
func (s *session) expiresAt() time.Time {
	if s.idleTimeout == 0 {
		return s.endsAt
	}
	if idle := s.lastSeenAt.Add(s.idleTimeout); idle.Before(s.endsAt) {
		return idle
	}
	return s.endsAt
}

// copyMark identifies a copy of a generation by its address in memory.
type copyMark struct{ _ byte }

// token is a token that the fake has made. Each token is a new copy of its generation, except a
// token that reissue has made: it has the copyMark of the old token.
type token struct {
	session    *session
	generation uint32
	issuedAt   time.Time
	endsAt     time.Time
	claims     map[string]string
	mark       *copyMark
	aged       bool
	expired    bool
	replayed   bool
}

// device is a device in the list of a user. session is nil if the user is not signed in on the
// device.
type device struct {
	deviceID    string
	client      *pb.ClientInfo
	createdAt   time.Time
	signedInAt  time.Time
	lastSeenAt  time.Time
	displayName string
	session     *session
	alarmedAt   time.Time // zero: no alarm
	alarmCause  pb.ReplayCause
}

// signIn is a sign-in with a request ID. The fake keeps the response, because the same request must
// get the same response again.
type signIn struct {
	request  *pb.IssueDeviceRequest
	session  *session
	response *pb.IssueDeviceResponse
}

// state has all data of the fake. Reset replaces the state with an empty state.
type state struct {
	devices  map[string]map[string]*device
	tokens   map[string]*token
	signIns  map[string]*signIn
	events   []*pb.Event
	assigned map[string]bool
	passed   time.Duration
}

func newState() *state {
	return &state{
		devices:  map[string]map[string]*device{},
		tokens:   map[string]*token{},
		signIns:  map[string]*signIn{},
		assigned: map[string]bool{},
	}
}

// now returns the time on the fake's clock.
func (s *state) now() time.Time { return time.Now().Add(s.passed) }

// told converts a time on the fake's clock to the clock of the machine, which PassTime does not
// move. Apps get the times of sessions, tokens and devices after this conversion. After PassTime,
// the times that apps get are earlier than before.
func (s *state) told(moment time.Time) *timestamppb.Timestamp {
	return timestamppb.New(moment.Add(-s.passed))
}

func (s *state) isLive(d *device) bool {
	return d.session != nil && s.now().Before(d.session.expiresAt())
}

// handOut makes a new token of the session's current generation. It returns the token's text and
// the token.
func (s *state) handOut(of *session, ttl time.Duration) (string, *token) {
	now := s.now()
	endsAt := now.Add(ttl)
	if of.endsAt.Before(endsAt) {
		endsAt = of.endsAt
	}
	return s.remember(&token{
		session: of, generation: of.generation, issuedAt: now, endsAt: endsAt, claims: of.claims,
		mark: &copyMark{},
	})
}

// reissue makes a token that equals old, except that it has the current claims of the session. It
// returns the new token's text and the new token.
func (s *state) reissue(old *token) (string, *token) {
	made := *old
	made.claims = made.session.claims
	return s.remember(&made)
}

func (s *state) remember(made *token) (string, *token) {
	text := "fake." + rand.Text()
	s.tokens[text] = made
	return text, made
}

// endSessions ends the live sessions of a user on all devices except spared, which is a device ID
// or empty. It returns the number of sessions that it ended.
func (s *state) endSessions(userID, spared string) int32 {
	ended := int32(0)
	for _, d := range s.devices[userID] {
		if s.isLive(d) && d.deviceID != spared {
			d.session = nil
			ended++
		}
	}
	return ended
}

func newSessionID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // rand.Read never fails
	return hex.EncodeToString(id)
}

func sameClaims(one, other map[string]string) bool { return maps.Equal(one, other) }
