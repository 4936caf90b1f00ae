package sessionauthoritytest

import (
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// These are the default settings of the service.
const (
	sessionTTL   = 30 * 24 * time.Hour
	grace        = 30 * time.Second
	durableAfter = 3 * time.Minute
	alarmAfter   = 5 * time.Minute
	alarmMemory  = 28 * 24 * time.Hour
	leeway       = 30 * time.Second
)

const (
	statusActive     = pb.SessionStatus_SESSION_STATUS_ACTIVE
	statusReplayed   = pb.SessionStatus_SESSION_STATUS_REPLAYED
	statusSuperseded = pb.SessionStatus_SESSION_STATUS_SUPERSEDED
)

// judge returns the status of the token with this text, if a client presents it from this device.
// The second result is the token if the token is good, and nil if it is not.
func judge(
	s *state, text, deviceID string, renewing, observeOnly bool,
) (pb.SessionStatus, *token) {
	found, now, presented := s.tokens[text], s.now(), uuidOf(deviceID)
	switch {
	case text == "":
		return pb.SessionStatus_SESSION_STATUS_TOKEN_MISSING, nil
	case found == nil:
		return pb.SessionStatus_SESSION_STATUS_TOKEN_INVALID, nil
	case !renewing && (found.expired || !now.Before(found.endsAt.Add(leeway))):
		return pb.SessionStatus_SESSION_STATUS_TOKEN_EXPIRED, nil
	}
	d := s.devices[found.session.userID][found.session.deviceID]
	if presented == "" || d == nil || d.session == nil {
		return pb.SessionStatus_SESSION_STATUS_NO_SESSION, nil
	}
	if !s.isLive(d) {
		if !observeOnly {
			d.session = nil
		}
		return pb.SessionStatus_SESSION_STATUS_SESSION_EXPIRED, nil
	}
	verdict := judgeOnItsDevice(d.session, found, now)
	if presented != d.deviceID {
		spared := s.assigned[presented] || found.session != d.session
		if !spared && (verdict == statusActive || verdict == statusReplayed) {
			return statusReplayed, nil
		}
		return pb.SessionStatus_SESSION_STATUS_WRONG_DEVICE, nil
	}
	if verdict == statusActive {
		return verdict, found
	}
	return verdict, nil
}

// judgeOnItsDevice returns the status of a token that was presented from its own device. live is
// the session that is live on this device.
func judgeOnItsDevice(live *session, presented *token, now time.Time) pb.SessionStatus {
	isSeen, seenFor := !live.firstSeenAt.IsZero(), now.Sub(live.firstSeenAt)
	if presented.session != live {
		if presented.session != live.replaced {
			return pb.SessionStatus_SESSION_STATUS_SESSION_ENDED
		}
		crossed := presented.issuedAt.After(live.signedInAt.Add(-alarmAfter))
		if crossed || !isSeen || seenFor < alarmAfter {
			return statusSuperseded
		}
		return statusReplayed
	}
	behind := live.generation - presented.generation
	settled := settledCopy(live, behind)
	switch {
	case presented.replayed || behind > 1 || settled != nil && settled != presented.mark:
		return statusReplayed
	case behind == 0 || !isSeen || seenFor < grace:
		return statusActive
	case seenFor < alarmAfter:
		return statusSuperseded
	default:
		return statusReplayed
	}
}

func settledCopy(live *session, behind uint32) *copyMark {
	switch behind {
	case 0:
		return live.holder
	case 1:
		return live.predecessor
	default:
		return nil
	}
}

// replayCause returns why a token that was presented from a device counts as replayed. The caller
// must call replayCause before the alarm ends the live session, because replayCause reads that
// session.
func replayCause(s *state, presented *token, deviceID string) pb.ReplayCause {
	live := s.devices[presented.session.userID][presented.session.deviceID].session
	if live == nil || deviceID != presented.session.deviceID {
		return pb.ReplayCause_REPLAY_CAUSE_LEFT_DEVICE
	}
	if presented.session != live {
		return pb.ReplayCause_REPLAY_CAUSE_REPLACED_SESSION
	}
	settled := settledCopy(live, live.generation-presented.generation)
	if settled != nil && settled != presented.mark {
		return pb.ReplayCause_REPLAY_CAUSE_SECOND_COPY
	}
	return pb.ReplayCause_REPLAY_CAUSE_SUPERSEDED_TOKEN
}

// markSeen notes that a client presented a token of the current generation. If the token is at
// least durableAfter old or AgeTokens has aged it, the generation counts as seen. If settles is
// true, the current generation is at least alarmAfter old and it has no holder, the copy of this
// token becomes the holder.
func markSeen(presented *token, now time.Time, settles bool) {
	of := presented.session
	if (presented.aged || now.Sub(presented.issuedAt) >= durableAfter) && of.firstSeenAt.IsZero() {
		of.firstSeenAt = now
	}
	if settles && of.holder == nil && now.Sub(of.renewedAt) >= alarmAfter {
		of.holder = presented.mark
	}
}

// rotateIfDue moves the session of a token to its next generation if the current generation is at
// least alarmAfter old. A token that a test has aged or expired always moves the session.
// rotateIfDue returns true if the session has a new generation.
func rotateIfDue(presented *token, now time.Time) bool {
	of := presented.session
	if !presented.aged && !presented.expired && now.Sub(of.renewedAt) < alarmAfter {
		return false
	}
	of.generation++
	of.firstSeenAt = time.Time{}
	of.holder, of.predecessor = nil, presented.mark
	of.renewedAt, of.newerClaims = now, false
	return true
}

var spelledUUID = regexp.MustCompile(
	`(?i)^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}` +
		`|\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}` +
		`|urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// uuidOf returns the UUID in a text, in lower case and with hyphens. It returns an empty text if
// the text is no UUID, or is the nil UUID.
func uuidOf(text string) string {
	text = strings.Trim(text, " \t\r\n")
	if !spelledUUID.MatchString(text) {
		return ""
	}
	id, err := uuid.Parse(text)
	if err != nil || id == uuid.Nil {
		return ""
	}
	return id.String()
}
