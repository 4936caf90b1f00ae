package sessionauthoritytest

import (
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// The defaults of the service.
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

// judge returns the status of a token on a device, and the token if it is good.
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

// judgeOnItsDevice returns the status of a token, compared with the live session on its device.
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

// replayCause returns why a token counts as replayed on a device. Call it before the session is
// ended.
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

// markSeen notes that a token of the current generation was presented. If the token is old enough,
// it counts as seen. If settles is true, the copy of the token may become the only good copy.
func markSeen(presented *token, now time.Time, settles bool) {
	of := presented.session
	if (presented.aged || now.Sub(presented.issuedAt) >= durableAfter) && of.firstSeenAt.IsZero() {
		of.firstSeenAt = now
	}
	if settles && of.holder == nil && now.Sub(of.renewedAt) >= alarmAfter {
		of.holder = presented.mark
	}
}

// rotateIfDue moves a session on to its next generation if its token is old enough. It returns true
// if it did so.
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

// uuidOf returns a device ID as the service writes it. It returns an empty text if the text is no
// device ID.
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
