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

// hangUpGrace is how long an app may keep a connection after the session has ended. Then the
// connection is closed.
const hangUpGrace = 10 * time.Second

// lastWriteTimeout is the time in which the last write of the app and the close frame must be sent
// to a slow client.
const lastWriteTimeout = time.Second

// closeFrame is a close frame of a WebSocket (RFC 6455, section 5.5.1) with the code 4401 and a
// reason.
var closeFrame = append([]byte{0x88, byte(2 + len(endedReason)), 4401 >> 8, 4401 & 0xFF},
	endedReason...)

const endedReason = "session_ended"

// guardedConn is a connection that an app has hijacked. It ends with the session: a WebSocket is
// closed with 4401, "session_ended", and the app's reads and writes fail with ErrSessionEnded.
// Deadlines that the app sets do not delay the end.
type guardedConn struct {
	net.Conn
	isWebSocket bool
	left        func()
	once        sync.Once

	// writes is locked during a write: the close frame must not be written inside another frame.
	writes sync.Mutex
	// state guards the fields below. It is never locked during a read or a write of the connection.
	state              sync.Mutex
	hasEnded, isHungUp bool
	timer              *time.Timer
}

func newGuardedConn(connection net.Conn, isWebSocket bool) *guardedConn {
	return &guardedConn{Conn: connection, isWebSocket: isWebSocket, left: func() {}}
}

func isWebSocket(v *Visit) bool { return requests.IsWebSocket(v.presented.request) }

// buffered returns a reader and a writer of the connection. received is the server's reader, which
// may hold bytes that the client sent early.
func (g *guardedConn) buffered(received *bufio.Reader) *bufio.ReadWriter {
	early, _ := received.Peek(received.Buffered())
	early = bytes.Clone(early)
	received.Reset(io.MultiReader(bytes.NewReader(early), g))
	_, _ = received.Peek(len(early)) // apps call Buffered to find early bytes
	return bufio.NewReadWriter(received, bufio.NewWriter(g))
}

// Read receives bytes. Once the session has ended, it returns ErrSessionEnded.
func (g *guardedConn) Read(data []byte) (int, error) {
	count, err := g.Conn.Read(data)
	g.state.Lock()
	defer g.state.Unlock()
	if g.isHungUp {
		return 0, ErrSessionEnded
	}
	return count, err
}

// Write sends bytes. Once the session has ended, it returns ErrSessionEnded.
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

// SetDeadline sets when reads and writes fail. Once the session has ended, it changes nothing and
// returns ErrSessionEnded.
func (g *guardedConn) SetDeadline(at time.Time) error { return g.set(g.Conn.SetDeadline, at) }

// SetReadDeadline sets when reads fail. Once the session has ended, it changes nothing and returns
// ErrSessionEnded.
func (g *guardedConn) SetReadDeadline(at time.Time) error {
	return g.set(g.Conn.SetReadDeadline, at)
}

// SetWriteDeadline sets when writes fail. Once the session has ended, it changes nothing and
// returns ErrSessionEnded.
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

// Close closes the connection. It does not wait for a write that is under way: that write fails.
func (g *guardedConn) Close() error {
	g.once.Do(g.left)
	g.state.Lock()
	if g.timer != nil {
		g.timer.Stop()
	}
	g.state.Unlock()
	return g.Conn.Close()
}

// hangUp signals the end of the session to the client, and makes the app's reads and writes fail.
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
	// Reads fail only after the close frame was sent: an app whose read fails may close the
	// connection at once.
	g.isHungUp = true
	_ = g.Conn.SetReadDeadline(time.Now())
	g.timer = time.AfterFunc(hangUpGrace, func() { _ = g.Close() })
}

// sayGoodbye sends the last bytes to the client. It waits for a write of the app that is under way.
func (g *guardedConn) sayGoodbye() {
	g.writes.Lock()
	defer g.writes.Unlock()
	if g.isWebSocket {
		_, _ = g.Conn.Write(closeFrame) // an error is ignored: the client has disconnected
	}
	if half, can := g.Conn.(interface{ CloseWrite() error }); can {
		_ = half.CloseWrite()
	}
}
