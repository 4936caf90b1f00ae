package sessionauthority_test

import (
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	sa "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/vectors"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

type errorGiven struct {
	Form    string
	Code    string
	Message string
	Details *string `json:"details_base64"`
	Item    string  `json:"item_base64"`
}

type errorExpected struct {
	Kind       string            `json:"kind"`
	Also       []string          `json:"also"`
	Code       string            `json:"code"`
	Reason     string            `json:"reason"`
	Message    string            `json:"message"`
	Retriable  bool              `json:"retriable"`
	RetryAfter *float64          `json:"retry_after_seconds"`
	Violations []violation       `json:"violations"`
	Metadata   map[string]string `json:"metadata"`
}

type violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

var kinds = []struct {
	name string
	err  error
}{
	// The special cases come first, because errors.Is also finds the general case.
	{"overloaded", sa.ErrOverloaded},
	{"not_replicated", sa.ErrNotReplicated},
	{"request_id_reused", sa.ErrRequestIDReused},
	{"unavailable", sa.ErrUnavailable},
	{"invalid_request", sa.ErrInvalidRequest},
	{"request_id_spent", sa.ErrRequestIDSpent},
	{"device_limit_reached", sa.ErrDeviceLimitReached},
	{"device_not_found", sa.ErrDeviceNotFound},
	{"session_not_found", sa.ErrSessionNotFound},
	{"conflict", sa.ErrConflict},
	{"cursor_expired", sa.ErrCursorExpired},
	{"caller_unknown", sa.ErrCallerUnknown},
	{"caller_not_allowed", sa.ErrCallerNotAllowed},
	{"internal_error", sa.ErrInternal},
}

func kindsOf(err error) (string, []string) {
	found := []string{}
	for _, kind := range kinds {
		if errors.Is(err, kind.err) {
			found = append(found, kind.name)
		}
	}
	if len(found) == 0 {
		return "other", found
	}
	return found[0], found[1:]
}

func TestVectorsOfErrors(t *testing.T) {
	vectors.Run(t, "errors", func(t *testing.T, c *vectors.Case) {
		t.Parallel()
		var given errorGiven
		vectors.Decode(t, c.Given, &given)
		err, retried := failWith(t, &given)
		var failed *sa.Error
		if !errors.As(err, &failed) {
			t.Fatalf("got %v", err)
		}
		found := errorExpected{
			Code:       codeName(failed.Code),
			Reason:     failed.Reason,
			Message:    failed.Message,
			Retriable:  retried,
			Violations: []violation{},
			Metadata:   map[string]string{},
		}
		found.Kind, found.Also = kindsOf(err)
		if failed.RetryAfter != nil {
			seconds := failed.RetryAfter.Seconds()
			found.RetryAfter = &seconds
		}
		for _, one := range failed.Violations {
			found.Violations = append(found.Violations, violation(one))
		}
		for name, value := range failed.Metadata {
			found.Metadata[name] = value
		}
		vectors.Equal(t, c.Expected, found)
	})
}

// codeName returns the name of a code in the form of gRPC's specification: "NOT_FOUND".
func codeName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	var name strings.Builder
	for i, letter := range code.String() {
		if i > 0 && 'A' <= letter && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}

func codeOf(t *testing.T, name string) codes.Code {
	t.Helper()
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(`"` + name + `"`)); err != nil {
		t.Fatal(err)
	}
	return code
}

// failWith makes a call that fails as a case says. It returns the error. The boolean is true if the
// client made the call again.
func failWith(t *testing.T, given *errorGiven) (error, bool) {
	t.Helper()
	if given.Form == "batch_item" {
		return failItem(t, given.Item), false
	}
	var calls atomic.Int32
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		calls.Add(1)
		if given.Details != nil {
			details, err := base64.StdEncoding.DecodeString(*given.Details)
			if err != nil {
				return err
			}
			stream.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(details)))
		}
		return status.Error(codeOf(t, given.Code), given.Message)
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	client, err := sa.NewClient(listener.Addr().String(), sa.WithTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	_, err = client.RevokeAll(t.Context(), "ada", nil)
	return err, calls.Load() > 1
}

func failItem(t *testing.T, text string) error {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	item := &pb.RequestError{}
	if err := proto.Unmarshal(data, item); err != nil {
		t.Fatal(err)
	}
	service := newScripted(t)
	service.answerBatch(item)
	results, err := service.client(t).ValidateSessions(t.Context(), make([]sa.Presented, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	return results[0].Err
}
