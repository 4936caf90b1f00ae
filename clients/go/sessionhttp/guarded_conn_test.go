package sessionhttp

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestNoDeadlineOfTheAppPutsTheEndOfAConnectionOff(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	guarded := newGuardedConn(here, false)
	defer guarded.Close()
	guarded.hangUp()
	_ = guarded.SetReadDeadline(time.Now().Add(time.Hour))
	_ = guarded.SetDeadline(time.Time{})
	go func() { _, _ = there.Write([]byte("a command")) }()
	if read, err := guarded.Read(make([]byte, 9)); read > 0 || !errors.Is(err, ErrSessionEnded) {
		t.Error(read, err)
	}
}

func TestCloseDoesNotWaitForAClientThatReadsNothing(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	guarded := newGuardedConn(here, false)
	written := make(chan error, 1)
	go func() {
		_, err := guarded.Write([]byte("twice"))
		written <- err
	}()
	// The write is under way as soon as its first byte has arrived.
	if _, err := io.ReadFull(there, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- guarded.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for the write")
	}
	if err := <-written; err == nil {
		t.Error("the write did not fail")
	}
}

func TestBytesThatTheClientSentEarlyAreKept(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	guarded := newGuardedConn(here, false)
	defer guarded.Close()
	received := bufio.NewReader(strings.NewReader("early"))
	if _, err := received.Peek(5); err != nil {
		t.Fatal(err)
	}
	buffer := guarded.buffered(received)
	if count := buffer.Reader.Buffered(); count != 5 {
		t.Error(count)
	}
	go func() { _, _ = there.Write([]byte(" late")) }()
	text := make([]byte, len("early late"))
	if _, err := io.ReadFull(buffer, text); string(text) != "early late" {
		t.Error(string(text), err)
	}
}
