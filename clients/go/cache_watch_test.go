package sessionauthority

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestEndOfWatchReturnsWhyAWatchHasEnded(t *testing.T) {
	expired, err := status.New(codes.OutOfRange, "").WithDetails(
		&errdetails.ErrorInfo{Domain: errorDomain, Reason: "CURSOR_EXPIRED"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		isSilent bool
		err      error
		want     error
	}{
		"the service ended it":             {false, nil, nil},
		"the connection broke":             {false, status.Error(codes.Unavailable, ""), ErrUnavailable},
		"silence":                          {true, status.Error(codes.Canceled, ""), errSilentWatch},
		"silence as the service ended it":  {true, nil, errSilentWatch},
		"another history":                  {false, expired.Err(), ErrCursorExpired},
		"another history, told in silence": {true, expired.Err(), ErrCursorExpired},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if row.isSilent {
				cancel(errSilentWatch)
			}
			if got := endOfWatch(ctx, row.err, false); !errors.Is(got, row.want) {
				t.Errorf("ended by %v, not %v", got, row.want)
			}
		})
	}
}
