package sessionauthority_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"

	sa "github.com/session-authority/session-authority/clients/go"
)

// clientGoroutines returns the stacks of the goroutines that belong to a client or to its gRPC
// connection.
func clientGoroutines() []string {
	buffer := make([]byte, 4<<20)
	var found []string
	for stack := range strings.SplitSeq(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		ours := strings.Contains(stack, "clients/go.(*") ||
			strings.Contains(stack, "internal/transport.(*http2Client)") ||
			strings.Contains(stack, "grpcsync") || strings.Contains(stack, "singleflight")
		if ours && !strings.Contains(stack, "(*http2Server)") &&
			!strings.Contains(stack, "grpc.(*Server)") {
			found = append(found, stack)
		}
	}
	return found
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	if left := clientGoroutines(); len(left) > 0 {
		eventually(t, "earlier clients have ended", func() bool {
			return len(clientGoroutines()) == 0
		})
	}
	service := newWatched(t)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}))
	hits(t, client, "token")
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			for i := range 20 {
				token := strings.Repeat("x", i)
				_, _ = client.ValidateSession(context.Background(), token, testDevice, nil)
			}
		})
	}
	watching := make(chan error)
	go func() {
		for _, err := range client.WatchEvents(context.Background(), nil) {
			if err != nil {
				watching <- err
			}
		}
		close(watching)
	}()
	if len(clientGoroutines()) == 0 {
		t.Error("this test does not see the goroutines of a client")
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	group.Wait()
	for range watching { // until the watch has ended
	}
	eventually(t, "no goroutine is left", func() bool { return len(clientGoroutines()) == 0 })
}
