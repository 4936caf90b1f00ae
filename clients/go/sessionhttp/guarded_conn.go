package sessionhttp

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"sync"
	"time"

	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// How long an app may take to heed that its connection has ended.
const hangUpGrace = 10 * time.Second

// How long a slow client may take for the last write of the app, and for the close frame.
const lastWriteTimeout = time.Second

// A close frame of a WebSocket (RFC 6455, section 5.5.1) with the code 4401 and a reason.
var closeFrame = append([]byte{0x88, byte(2 + len(endedReason)), 4401 >> 8, 4401 & 0xFF},
	endedReason...)

const endedReason = "session_ended"

// guardedConn is a connection that an app has taken over. It ends with the session: a WebSocket is
// closed with 4401, "session_ended", and the app sees a client that has left. No deadline that the
// app sets puts this off.
type guardedConn struct {
	net.Conn
	isWebSocket bool
	left        func()
	once        sync.Once

	// writes is held for a write: the close frame must not come within another frame.
	writes sync.Mutex
	// state is for the fields below. It is held for no read and no write.
	state              sync.Mutex
	hasEnded, isHungUp bool
	timer              *time.Timer
}

func newGuardedConn(connection net.Conn, isWebSocket bool) *guardedConn {
	return &guardedConn{Conn: connection, isWebSocket: isWebSocket, left: func() {}}
}

func isWebSocket(v *Visit) bool { return requests.IsWebSocket(v.presented.request) }

// buffered returns a reader and a writer of the connection. Received is the server's reader, which
// may hold bytes that the client sent early.
func (g *guardedConn) buffered(received *bufio.Reader) *bufio.ReadWriter {
	early, _ := received.Peek(received.Buffered())
	early = bytes.Clone(early)
	received.Reset(io.MultiReader(bytes.NewReader(early), g))
	_, _ = received.Peek(len(early)) // apps ask Buffered whether the client sent bytes early
	return bufio.NewReadWriter(received, bufio.NewWriter(g))
}

// Read receives bytes until the session has ended.
func (g *guardedConn) Read(data []byte) (int, error) {
	count, err := g.Conn.Read(data)
	g.state.Lock()
	defer g.state.Unlock()
	if g.isHungUp {
		return 0, ErrSessionEnded
	}
	return count, err
}

// Write sends bytes until the session has ended.
func (g *guardedConn) Write(data []byte) (int, error) {
	g.writes.Lock()
	defer g.writes.Unlock()
	g.state.Lock()
	hasEnded := g.hasEnded
	g.state.Unlock()
	if hasEnded {
		return 0, ErrSessionEnded
	}
	return g.Conn.Write(data)
}

// SetDeadline sets when reads and writes fail, unless the session has ended.
func (g *guardedConn) SetDeadline(at time.Time) error { return g.set(g.Conn.SetDeadline, at) }

// SetReadDeadline sets when reads fail, unless the session has ended.
func (g *guardedConn) SetReadDeadline(at time.Time) error {
	return g.set(g.Conn.SetReadDeadline, at)
}

// SetWriteDeadline sets when writes fail, unless the session has ended.
func (g *guardedConn) SetWriteDeadline(at time.Time) error {
	return g.set(g.Conn.SetWriteDeadline, at)
}

func (g *guardedConn) set(deadline func(time.Time) error, at time.Time) error {
	g.state.Lock()
	defer g.state.Unlock()
	if g.hasEnded {
		return ErrSessionEnded
	}
	return deadline(at)
}

// Close closes the connection. It does not wait for a write under way: that fails.
func (g *guardedConn) Close() error {
	g.once.Do(g.left)
	g.state.Lock()
	if g.timer != nil {
		g.timer.Stop()
	}
	g.state.Unlock()
	return g.Conn.Close()
}

// hangUp tells the client that the session has ended, and has the app's reads and writes fail.
func (g *guardedConn) hangUp() {
	g.state.Lock()
	hadEnded := g.hasEnded
	if !hadEnded {
		g.hasEnded = true
		_ = g.Conn.SetWriteDeadline(time.Now().Add(lastWriteTimeout))
	}
	g.state.Unlock()
	if hadEnded {
		return
	}
	g.sayGoodbye()
	g.state.Lock()
	defer g.state.Unlock()
	g.isHungUp = true // only now: an app whose read fails closes the connection at once
	_ = g.Conn.SetReadDeadline(time.Now())
	g.timer = time.AfterFunc(hangUpGrace, func() { _ = g.Close() })
}

// sayGoodbye sends the last bytes, after a write of the app that is under way.
func (g *guardedConn) sayGoodbye() {
	g.writes.Lock()
	defer g.writes.Unlock()
	if g.isWebSocket {
		_, _ = g.Conn.Write(closeFrame) // a client that has left needs none
	}
	if half, can := g.Conn.(interface{ CloseWrite() error }); can {
		_ = half.CloseWrite()
	}
}
