package devices

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// The Python client has the originals of the files that are copied into this package.
const originals = "../../../python/session_authority_client/devices"

func TestTheCopiesAreFresh(t *testing.T) {
	if _, err := os.Stat(originals); err != nil {
		t.Skip("the originals are part of a checkout, not of this module")
	}
	compared := 0
	for _, pattern := range []string{"openapi.json", "static/" + ElementName, "messages/*.json"} {
		paths, _ := filepath.Glob(filepath.Join(originals, pattern))
		for _, path := range paths {
			name, _ := filepath.Rel(originals, path)
			wanted, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if copied, err := os.ReadFile(name); err != nil || !bytes.Equal(wanted, copied) {
				t.Errorf("%s is not a copy of the Python client's file: copy it", name)
			}
			compared++
		}
	}
	if compared != 2+len(languages) {
		t.Errorf("compared %d files: texts of a language are missing here", compared)
	}
}

func TestTextsFollowTheLanguageThatIsWantedMost(t *testing.T) {
	for _, each := range []struct{ header, language string }{
		{"", "en"}, {"de", "de"}, {"de-AT", "de"}, {"ja, tr;q=0.5, fr;q=0.9", "fr"},
		{"fr;q=0, es", "es"}, {"DE-at-1996", "de"}, {"../../etc", "en"},
	} {
		if texts := TextsFor(Accepted([]string{each.header})); texts.Language != each.language {
			t.Errorf("%q: %s", each.header, texts.Language)
		}
	}
	if direction := TextsFor([]string{"ar"}).Direction; direction != "rtl" {
		t.Error(direction)
	}
}

func TestAListComesPageByPage(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	var all []sessionauthority.Device
	for number := range 120 {
		all = append(all, sessionauthority.Device{
			DeviceID: idOf(number), SignedIn: number < 100, Current: number == 7,
			LastSeenTime: now.Add(-time.Duration(number) * time.Minute),
		})
	}
	all = append(all, sessionauthority.Device{
		DeviceID: idOf(200), LastSeenTime: now.Add(-29 * 24 * time.Hour),
	})
	var seen []string
	for after := ""; ; {
		page, err := List(all, now, after, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, device := range page.Devices {
			seen = append(seen, device.DeviceID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(seen) != 120 || seen[0] != idOf(7) || seen[1] != idOf(0) || seen[119] != idOf(119) {
		t.Error(len(seen), seen[:2])
	}
	for _, cursor := range []string{"x", "3.1." + idOf(1), "1.1.", "1." + strings.Repeat("9", 19)} {
		if _, err := List(all, now, cursor, ""); err != ErrBadCursor {
			t.Errorf("%q: %v", cursor, err)
		}
	}
}

func TestAnAlarmIsShownForFourWeeksAndMarkedByItsMail(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	device := sessionauthority.Device{
		DeviceID: idOf(1), SignedIn: true, SignInTime: now.Add(-time.Hour),
		LastAlarm: &sessionauthority.DeviceAlarm{CreateTime: now.Add(-time.Minute)},
	}
	mail := "evt_ab_1799999940000_1"
	page, _ := List([]sessionauthority.Device{device}, now, "", mail)
	if len(page.Alarms) != 1 || page.Alarms[0].EventID != mail || page.Marked != "" {
		t.Error(page.Alarms, page.Marked)
	}
	page, _ = List([]sessionauthority.Device{device}, now, "", "evt_ab_1799996400000_1")
	if page.Alarms[0].EventID != "" || page.Marked != idOf(1) {
		t.Error(page.Alarms, page.Marked)
	}
	device.LastAlarm.CreateTime = now.Add(-29 * 24 * time.Hour)
	if page, _ = List([]sessionauthority.Device{device}, now, "", ""); len(page.Alarms) != 0 {
		t.Error(page.Alarms)
	}
}

func idOf(number int) string {
	text := "00000000-0000-4000-8000-000000000000"
	digits := []byte(text)
	for place := len(digits) - 1; number > 0; place-- {
		digits[place] = byte('0' + number%10)
		number /= 10
	}
	return string(digits)
}

func FuzzCursors(f *testing.F) {
	for _, seed := range []string{"", "1.5." + idOf(3), "2.999999999999999999." + idOf(3), "1..",
		"evt_a_1800000000000_1"} {
		f.Add(seed, seed)
	}
	now := time.UnixMilli(1_800_000_000_000)
	all := []sessionauthority.Device{{DeviceID: idOf(3), SignedIn: true, LastSeenTime: now}}
	f.Fuzz(func(t *testing.T, cursor, event string) {
		page, err := List(all, now, cursor, event)
		if err == nil && len(page.Devices) > 1 {
			t.Error(page)
		}
	})
}
