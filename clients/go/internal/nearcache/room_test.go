package nearcache

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

func TestAnAnswerDoesNotKeepTheHeaderThatItsTokenCameIn(t *testing.T) {
	cache, err := New[int](Settings{}, func() (time.Duration, time.Time) {
		return 0, time.Unix(1_800_000_000, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	cache.Begin()
	cache.Tell(&pb.WatchEventsResponse{ReadUptime: durationpb.New(0)})
	header := "session=token; device=id; other=" + strings.Repeat("x", 1<<20)
	token, deviceID := header[8:13], header[22:24]
	ticket, _ := cache.Ticket()
	stored := cache.Store(ticket, token, deviceID, Answer[int]{
		Active: true, UserID: "ada", Ends: time.Unix(1_800_000_060, 0),
	})
	if _, found := cache.Get("token", "id"); !stored || !found {
		t.Fatal("the answer was not kept")
	}
	for kept := range cache.entries {
		if unsafe.StringData(kept.accessToken) == unsafe.StringData(token) ||
			unsafe.StringData(kept.deviceID) == unsafe.StringData(deviceID) {
			t.Error("the cache keeps a part of the header, which keeps the header in memory")
		}
	}
}
