package sessionauthoritytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// broken names a field of a request that breaks a rule of the service. rule is the text of that
// rule.
type broken struct{ field, rule string }

const (
	maxBatch         = 500
	maxClaimsBytes   = 1024
	maxAuthMethods   = 8
	maxUserIDLength  = 255
	maxNameLength    = 100
	maxVersionLength = 64
	minSessionTTL    = time.Second
	minIdleTimeout   = 2 * time.Minute
	maxIdleTimeout   = 7 * 24 * time.Hour
	// unseen has characters that Unicode calls printable, although they are invisible.
	unseen = "\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f"
	// joiners has invisible characters that Persian words and many emoji need.
	joiners  = "\u200c\u200d"
	nameRule = "1 to 128 letters, digits or characters of a URI, like '_', '-', '.', ':', '/' or '#'"
	uuidRule = "must be a UUID, like 123e4567-e89b-42d3-a456-426614174000"
)

// idleLimits is the metadata of the error for an idle timeout that is too short or too long.
var idleLimits = map[string]string{
	"min_seconds": fmt.Sprint(int(minIdleTimeout.Seconds())),
	"max_seconds": fmt.Sprint(int(maxIdleTimeout.Seconds())),
}

var (
	name      = regexp.MustCompile(`^[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,128}$`)
	sessionID = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
	country   = regexp.MustCompile(`^[A-Za-z]{2}$`)
	reserved  = strings.Fields("iss aud sub dk sid gen jti iat nbf exp auth_time amr acr azp act" +
		" may_act cnf nonce client_id typ scope roles groups entitlements permissions")
)

func signInRules(request *pb.IssueDeviceRequest) []broken {
	found := slices.Concat(
		userIDRules(request.GetUserId()), claimRules(request.GetClaims()),
		authMethodRules(request.GetAuthMethods()),
		timeRules("session_ttl", request.GetSessionTtl(), minSessionTTL, sessionTTL),
	)
	if request.GetRequestId() != "" && uuidOf(request.GetRequestId()) == "" {
		found = append(found, broken{"request_id", "must be a UUID"})
	}
	return append(found,
		timeRules("idle_timeout", request.GetIdleTimeout(), minIdleTimeout, maxIdleTimeout)...)
}

func claimRules(claims map[string]string) []broken {
	var found []broken
	for claim := range claims {
		if !name.MatchString(claim) {
			found = append(found, broken{"claims", "names must be " + nameRule})
			break
		}
	}
	for _, claim := range reserved {
		if _, has := claims[claim]; has {
			found = append(found, broken{"claims." + claim, "is a reserved name"})
		}
	}
	var written bytes.Buffer
	encoder := json.NewEncoder(&written)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(claims) // a map of texts can always be written
	if len(bytes.TrimSpace(written.Bytes())) > maxClaimsBytes {
		found = append(found, broken{
			"claims", fmt.Sprintf("must have at most %d bytes as JSON", maxClaimsBytes),
		})
	}
	return found
}

func authMethodRules(methods []string) []broken {
	var found []broken
	if len(methods) > maxAuthMethods {
		found = append(found, broken{
			"auth_methods", fmt.Sprintf("must have at most %d entries", maxAuthMethods),
		})
	}
	for i, method := range methods[:min(len(methods), maxAuthMethods)] {
		if !name.MatchString(method) {
			found = append(found, broken{fmt.Sprintf("auth_methods[%d]", i), "must be " + nameRule})
		}
	}
	return found
}

func timeRules(field string, asked *durationpb.Duration, least, most time.Duration) []broken {
	if asked == nil || asked.AsDuration() >= least && asked.AsDuration() <= most {
		return nil
	}
	return []broken{{field, fmt.Sprintf(
		"must be from %d to %d seconds", int(least.Seconds()), int(most.Seconds()),
	)}}
}

func batchRules(size int, field string) []broken {
	if 1 <= size && size <= maxBatch {
		return nil
	}
	return []broken{{field, fmt.Sprintf("must be 1 to %d %s, not %d", maxBatch, field, size)}}
}

func sessionNameRules(named *pb.SessionName) []broken {
	found := append(userIDRules(named.GetUserId()), deviceIDRules(named.GetDeviceId())...)
	if !sessionID.MatchString(named.GetSessionId()) {
		found = append(found, broken{"session_id", "must be 32 hexadecimal digits"})
	}
	return found
}

func userIDRules(userID string) []broken {
	switch {
	case userID == "":
		return []broken{{"user_id", "must not be empty"}}
	case utf8.RuneCountInString(userID) > maxUserIDLength:
		return []broken{{
			"user_id", fmt.Sprintf("must have at most %d characters", maxUserIDLength),
		}}
	case isPrinted(userID):
		return nil
	default:
		return []broken{{"user_id", "must have no control or other unprintable characters," +
			" and no white space at the ends"}}
	}
}

func isPrinted(text string) bool {
	for _, letter := range text {
		shown := unicode.IsPrint(letter) || unicode.Is(unicode.Zs, letter) ||
			strings.ContainsRune(joiners, letter)
		if !shown || strings.ContainsRune(unseen, letter) {
			return false
		}
	}
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	for _, end := range []rune{first, last} {
		if unicode.IsSpace(end) || strings.ContainsRune(joiners, end) {
			return false
		}
	}
	return !unicode.IsMark(first)
}

func deviceIDRules(deviceID string) []broken {
	if uuidOf(deviceID) != "" {
		return nil
	}
	return []broken{{"device_id", uuidRule}}
}

func displayNameRules(given string) []broken {
	shown := cleaned(given)
	switch {
	case utf8.RuneCountInString(shown) > maxNameLength:
		return []broken{{
			"display_name", fmt.Sprintf("must have at most %d characters", maxNameLength),
		}}
	case shown != "" || strings.TrimSpace(given) == "":
		return nil
	default:
		return []broken{{"display_name", "must have a character that can be seen"}}
	}
}

// cleaned returns a text for display. It replaces each run of white space with one space, and
// removes unprintable characters.
func cleaned(text string) string {
	shown := strings.Map(func(letter rune) rune {
		switch {
		case unicode.IsSpace(letter):
			return ' '
		case unicode.IsPrint(letter) || strings.ContainsRune(joiners, letter):
			return letter
		default:
			return -1
		}
	}, text)
	return strings.Join(strings.Fields(shown), " ")
}

func cut(text string, length int) string {
	letters := []rune(cleaned(text))
	return strings.TrimSpace(string(letters[:min(len(letters), length)]))
}

// shownClient returns the client as the service stores it. It refuses no value, but removes
// unprintable characters, and cuts names that are too long. If the country code is malformed, it
// becomes empty.
func shownClient(client *pb.ClientInfo) *pb.ClientInfo {
	if client == nil {
		return &pb.ClientInfo{}
	}
	shown := proto.CloneOf(client)
	shown.IpAddress = cleaned(client.GetIpAddress())
	shown.UserAgent = cleaned(client.GetUserAgent())
	shown.DisplayName = cut(client.GetDisplayName(), maxNameLength)
	shown.AppVersion = cut(client.GetAppVersion(), maxVersionLength)
	if shown.Place != nil {
		shown.Place.City = cut(client.GetPlace().GetCity(), maxNameLength)
		code := strings.TrimSpace(client.GetPlace().GetCountryCode())
		if !country.MatchString(code) {
			code = ""
		}
		shown.Place.CountryCode = strings.ToUpper(code)
	}
	return shown
}
