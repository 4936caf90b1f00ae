package sessionauthoritytest

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// session is one sign-in of a user on a device. Until its token is renewed it has one generation.
type session struct {
	userID      string
	deviceID    string
	sessionID   string
	claims      map[string]string
	authMethods []string
	signedInAt  time.Time
	endsAt      time.Time
	replaced    *session
	idleTimeout time.Duration // 0: none
	generation  uint32
	renewedAt   time.Time
	lastSeenAt  time.Time
	firstSeenAt time.Time // zero: not seen yet
	toldAt      time.Time
	holder      *copyMark
	predecessor *copyMark
	updated     map[string]string // the claims of the last update, nil without one
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

// copyMark distinguishes two tokens of one generation.
type copyMark struct{ _ byte }

// token is a token that was handed out. Each token is another copy of its generation, unless it is
// an earlier token that was made once more with newer claims.
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

// device is a device in a user's list, with its session if the user is signed in there.
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

// signIn is a sign-in that had a request ID: the same request gets the same response.
type signIn struct {
	request  *pb.IssueDeviceRequest
	session  *session
	response *pb.IssueDeviceResponse
}

// state is everything that the fake knows. Reset replaces it by a new state.
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

// now returns the time of the fake.
func (s *state) now() time.Time { return time.Now().Add(s.passed) }

// told converts a moment to the clock of the machine, which no test moves. Apps get the times of
// sessions, tokens and devices in this form. So after PassTime, past times are further back and
// future times are nearer.
func (s *state) told(moment time.Time) *timestamppb.Timestamp {
	return timestamppb.New(moment.Add(-s.passed))
}

func (s *state) isLive(d *device) bool {
	return d.session != nil && s.now().Before(d.session.expiresAt())
}

// handOut makes a token of the session's generation. It returns the text of the token, too.
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

// reissue makes the same token with the session's claims. It returns the text of the token, too.
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

// endSessions ends a user's sessions on all devices but one. It returns on how many devices it
// ended a session.
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
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

func sameClaims(one, other map[string]string) bool { return maps.Equal(one, other) }
