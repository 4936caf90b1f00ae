package sessionhttp

import (
	"net"
	"sync"
	"time"

	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// How long an app may take to heed that its connection has ended.
const hangUpGrace = 10 * time.Second

// A close frame of a WebSocket (RFC 6455, section 5.5.1) with the code 4401 and a reason.
var closeFrame = append([]byte{0x88, byte(2 + len(endedReason)), 4401 >> 8, 4401 & 0xFF},
	endedReason...)

const endedReason = "session_ended"

// guardedConn is a connection that an app has taken over. It ends with the session: a WebSocket is
// closed with 4401, "session_ended", and the app sees a client that has left.
type guardedConn struct {
	net.Conn
	isWebSocket bool
	left        func()
	once        sync.Once

	mutex    sync.Mutex // for writes: the close frame must not come within another frame
	hasEnded bool
	timer    *time.Timer
}

func newGuardedConn(connection net.Conn, isWebSocket bool) *guardedConn {
	return &guardedConn{Conn: connection, isWebSocket: isWebSocket, left: func() {}}
}

func isWebSocket(v *Visit) bool { return requests.IsWebSocket(v.presented.request) }

// Write sends bytes until the session has ended.
func (g *guardedConn) Write(data []byte) (int, error) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.hasEnded {
		return 0, ErrSessionEnded
	}
	return g.Conn.Write(data)
}

// Close closes the connection.
func (g *guardedConn) Close() error {
	g.once.Do(g.left)
	g.mutex.Lock()
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mutex.Unlock()
	return g.Conn.Close()
}

// hangUp tells the client that the session has ended, and has the app's reads and writes fail.
func (g *guardedConn) hangUp() {
	// A write of the app that waits for a slow client must not hold this up.
	_ = g.SetWriteDeadline(time.Now().Add(time.Second))
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.hasEnded {
		return
	}
	g.hasEnded = true
	if g.isWebSocket {
		_, _ = g.Conn.Write(closeFrame) // a client that has left needs none
	}
	if half, can := g.Conn.(interface{ CloseWrite() error }); can {
		_ = half.CloseWrite()
	}
	_ = g.SetReadDeadline(time.Now())
	g.timer = time.AfterFunc(hangUpGrace, func() { _ = g.Close() })
}
