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

// hangUpGrace is how long an app may keep a hijacked connection open after the session has ended.
// When hangUpGrace is over, guardedConn closes the connection.
const hangUpGrace = 10 * time.Second

// lastWriteTimeout limits how long a slow client may delay the last bytes after the session has
// ended. The last bytes are the rest of a write of the app, and the close frame.
const lastWriteTimeout = time.Second

// closeFrame is a close frame of a WebSocket (RFC 6455, section 5.5.1) with the code 4401 and the
// reason "session_ended".
var closeFrame = append([]byte{0x88, byte(2 + len(endedReason)), 4401 >> 8, 4401 & 0xFF},
	endedReason...)

const endedReason = "session_ended"

// guardedConn is a connection that an app has hijacked. When the session ends, guardedConn sends
// the code 4401 if the connection is a WebSocket, and the app's reads and writes fail with
// ErrSessionEnded. The app can't delay the end of the connection by setting deadlines.
type guardedConn struct {
	net.Conn
	isWebSocket bool
	left        func()
	once        sync.Once

	// writes is locked during a write, so that the close frame does not interrupt a frame of the
	// app.
	writes sync.Mutex
	// state guards hasEnded, isHungUp and timer. state is not locked during a read or a write of
	// the connection.
	state              sync.Mutex
	hasEnded, isHungUp bool
	timer              *time.Timer
}

func newGuardedConn(connection net.Conn, isWebSocket bool) *guardedConn {
	return &guardedConn{Conn: connection, isWebSocket: isWebSocket, left: func() {}}
}

func isWebSocket(v *Visit) bool { return requests.IsWebSocket(v.presented.request) }

// buffered returns a reader and a writer of the guarded connection. received is the reader of the
// HTTP server, which may hold bytes that the client sent before the app hijacked the connection.
func (g *guardedConn) buffered(received *bufio.Reader) *bufio.ReadWriter {
	early, _ := received.Peek(received.Buffered())
	early = bytes.Clone(early)
	received.Reset(io.MultiReader(bytes.NewReader(early), g))
	_, _ = received.Peek(len(early)) // apps call Buffered to find these bytes
	return bufio.NewReadWriter(received, bufio.NewWriter(g))
}

// Read reads from the connection. After the session has ended, Read returns ErrSessionEnded.
func (g *guardedConn) Read(data []byte) (int, error) {
	count, err := g.Conn.Read(data)
	g.state.Lock()
	defer g.state.Unlock()
	if g.isHungUp {
		return 0, ErrSessionEnded
	}
	return count, err
}

// Write writes to the connection. After the session has ended, Write returns ErrSessionEnded.
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

// SetDeadline sets the time at which reads and writes fail. After the session has ended,
// SetDeadline changes nothing and returns ErrSessionEnded.
func (g *guardedConn) SetDeadline(at time.Time) error { return g.set(g.Conn.SetDeadline, at) }

// SetReadDeadline sets the time at which reads fail. After the session has ended, SetReadDeadline
// changes nothing and returns ErrSessionEnded.
func (g *guardedConn) SetReadDeadline(at time.Time) error {
	return g.set(g.Conn.SetReadDeadline, at)
}

// SetWriteDeadline sets the time at which writes fail. After the session has ended,
// SetWriteDeadline changes nothing and returns ErrSessionEnded.
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

// Close closes the connection. If a write is under way, Close does not wait, and the write fails.
func (g *guardedConn) Close() error {
	g.once.Do(g.left)
	g.state.Lock()
	if g.timer != nil {
		g.timer.Stop()
	}
	g.state.Unlock()
	return g.Conn.Close()
}

// hangUp ends the connection because the session has ended. It sends the last bytes to the client,
// and makes the app's reads and writes fail with ErrSessionEnded.
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
	// Reads fail only after the close frame was sent. If a read failed earlier, the app might close
	// the connection before the close frame is sent.
	g.isHungUp = true
	_ = g.Conn.SetReadDeadline(time.Now())
	g.timer = time.AfterFunc(hangUpGrace, func() { _ = g.Close() })
}

// sayGoodbye sends the close frame if the connection is a WebSocket, and then ends the sending side
// of the connection. If a write of the app is under way, sayGoodbye first waits for this write.
func (g *guardedConn) sayGoodbye() {
	g.writes.Lock()
	defer g.writes.Unlock()
	if g.isWebSocket {
		_, _ = g.Conn.Write(closeFrame) // an error means that the client is gone or too slow
	}
	if half, can := g.Conn.(interface{ CloseWrite() error }); can {
		_ = half.CloseWrite()
	}
}
