package nearcache_test

import (
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/session-authority/session-authority/clients/go/internal/nearcache"
	"github.com/session-authority/session-authority/clients/go/internal/vectors"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

type history struct {
	Settings struct {
		MaxEntries int     `json:"max_entries"`
		MaxAge     float64 `json:"max_age_seconds"`
		MaxSilence float64 `json:"max_silence_seconds"`
	}
	Steps []*step
}

type step struct {
	At          float64
	Wall        float64
	Do          string
	As          string
	Ticket      string
	Token       string
	DeviceID    string   `json:"device_id"`
	UserID      string   `json:"user_id"`
	HistoryGone bool     `json:"history_gone"`
	ReadUptime  *float64 `json:"read_uptime"`
	ReadTime    *float64 `json:"read_time"`
	Events      []struct {
		Type   json.RawMessage
		UserID string `json:"user_id"`
	}
	Answer struct {
		Active           bool
		RenewRecommended bool `json:"renew_recommended"`
		Session          *struct {
			UserID         string  `json:"user_id"`
			SessionID      string  `json:"session_id"`
			TokenExpiresAt float64 `json:"token_expires_at"`
			ExpiresAt      float64 `json:"expires_at"`
		}
	}
}

// player runs the steps of a case on a cache. Each step sets the clocks of the cache.
type player struct {
	cache   *nearcache.Cache[string]
	at      time.Duration
	wall    time.Time
	tickets map[string]nearcache.Ticket
	results map[string]any
}

func seconds(number float64) time.Duration {
	return time.Duration(math.Round(number*1e6)) * time.Microsecond
}

func instant(number float64) time.Time { return time.Unix(0, 0).Add(seconds(number)) }

func TestVectorsOfTheCache(t *testing.T) {
	vectors.Run(t, "cache", func(t *testing.T, c *vectors.Case) {
		var given history
		if err := json.Unmarshal(c.Given, &given); err != nil {
			t.Fatal(err)
		}
		p := &player{tickets: map[string]nearcache.Ticket{}, results: map[string]any{}}
		var err error
		p.cache, err = nearcache.New[string](nearcache.Settings{
			MaxEntries: given.Settings.MaxEntries,
			MaxAge:     seconds(given.Settings.MaxAge),
			MaxSilence: seconds(given.Settings.MaxSilence),
		}, func() (time.Duration, time.Time) { return p.at, p.wall })
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range given.Steps {
			p.at, p.wall = seconds(one.At), instant(one.Wall)
			result := p.play(t, one)
			if one.As != "" {
				p.results[one.As] = result
			}
		}
		stats := p.cache.Stats()
		vectors.Equal(t, c.Expected, map[string]any{
			"results": p.results, "live": stats.Live, "entries": stats.Entries,
			"dropped": map[string]uint64{
				"event": stats.Dropped.Event, "emptied": stats.Dropped.Emptied,
				"room": stats.Dropped.Room, "over": stats.Dropped.Over,
				"replaced": stats.Dropped.Replaced,
			},
		})
	})
}

func (p *player) play(t *testing.T, one *step) any {
	t.Helper()
	switch one.Do {
	case "begin_watch":
		p.cache.Begin()
	case "watch_message":
		p.cache.Tell(message(t, one))
	case "lose_watch":
		p.cache.Lost(one.HistoryGone)
	case "take_ticket":
		ticket, isLive := p.cache.Ticket()
		if isLive {
			p.tickets[one.As] = ticket
		}
		return isLive
	case "store":
		ticket, isThere := p.tickets[one.Ticket]
		if !isThere {
			t.Fatalf("there is no ticket %q", one.Ticket)
		}
		return p.cache.Store(ticket, one.Token, one.DeviceID, answer(one))
	case "get":
		_, isHit := p.cache.Get(one.Token, one.DeviceID)
		return isHit
	case "discard":
		p.cache.Discard(one.Token, one.DeviceID)
	case "forget_user":
		p.cache.ForgetUser(one.UserID)
	case "clear":
		p.cache.Clear()
	case "seconds_left":
		return p.cache.TimeLeft().Seconds()
	default:
		t.Fatalf("unknown step %q", one.Do)
	}
	return nil
}

func answer(one *step) nearcache.Answer[string] {
	made := nearcache.Answer[string]{
		Active: one.Answer.Active, RenewRecommended: one.Answer.RenewRecommended,
	}
	if session := one.Answer.Session; session != nil {
		made.UserID, made.SessionID = session.UserID, session.SessionID
		made.Ends = instant(min(session.TokenExpiresAt, session.ExpiresAt))
	} else {
		made.Active = false // as in the client: an answer without a session is not active
	}
	return made
}

func message(t *testing.T, one *step) *pb.WatchEventsResponse {
	t.Helper()
	made := &pb.WatchEventsResponse{}
	for _, event := range one.Events {
		made.Events = append(made.Events, &pb.Event{
			Type: eventType(t, event.Type), UserId: event.UserID,
		})
	}
	if one.ReadUptime != nil {
		made.ReadUptime = durationpb.New(seconds(*one.ReadUptime))
	}
	if one.ReadTime != nil {
		made.ReadTime = timestamppb.New(instant(*one.ReadTime))
	}
	return made
}

func eventType(t *testing.T, text json.RawMessage) pb.EventType {
	t.Helper()
	if number, err := strconv.Atoi(string(text)); err == nil {
		return pb.EventType(number)
	}
	var name string
	vectors.Decode(t, text, &name)
	number, isKnown := pb.EventType_value["EVENT_TYPE_"+name]
	if !isKnown {
		t.Fatalf("unknown type %q", name)
	}
	return pb.EventType(number)
}
