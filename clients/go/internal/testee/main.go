// Command testee runs the scenarios of tests/polyglot with the Go client. It reads commands from
// stdin and writes replies to stdout, as JSON lines. Each command calls the client, or sends a
// request to an app that uses the client's middleware. The test runner, and not this program,
// checks the results.
package main

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"sync"

	sa "github.com/session-authority/session-authority/clients/go"
)

// testee has the clients of this program, by the names that the test runner gave them.
type testee struct {
	mu      sync.Mutex
	clients map[string]*sa.Client
	out     sync.Mutex
	encoder *json.Encoder
}

// run is a command that is under way.
type run struct {
	*testee
	id     json.RawMessage
	fields fields
	client *sa.Client
	// The handler calls begun right before it calls the client. After begun, the next command may
	// begin.
	begun func()
}

type handler func(*run) (any, error)

func main() {
	t := &testee{clients: map[string]*sa.Client{}, encoder: json.NewEncoder(os.Stdout)}
	t.encoder.SetEscapeHTML(false)
	t.write(map[string]any{"ready": "go", "commands": slices.Sorted(maps.Keys(commands))})
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			t.begin(line)
		}
		if err != nil {
			break
		}
	}
	for _, client := range t.clients {
		_ = client.Close()
	}
}

func (t *testee) write(line any) {
	t.out.Lock()
	defer t.out.Unlock()
	_ = t.encoder.Encode(line) // an error means that the test runner has ended
}

// begin starts the command in a line. It returns when the command is about to call the client, or
// has ended.
func (t *testee) begin(line []byte) {
	var named struct {
		ID      json.RawMessage `json:"id"`
		Command string          `json:"command"`
		Client  *string         `json:"client"`
	}
	r := &run{testee: t, id: json.RawMessage("null")}
	if json.Unmarshal(line, &named) != nil || json.Unmarshal(line, &r.fields) != nil {
		r.reply(nil, badCommand("the line is no command"))
		return
	}
	if named.ID != nil {
		r.id = named.ID
	}
	handle, isKnown := commands[named.Command]
	if !isKnown {
		r.reply(nil, &refusal{"unknown_command", "there is no command " + named.Command})
		return
	}
	if named.Client == nil {
		r.reply(nil, badCommand("client: is missing"))
		return
	}
	r.fields["client"], _ = json.Marshal(named.Client)
	switch named.Command {
	case "connect", "close": // these commands end before the next command begins
		r.begun = func() {}
		r.reply(handle(r))
		return
	}
	t.mu.Lock()
	r.client = t.clients[*named.Client]
	t.mu.Unlock()
	if r.client == nil {
		r.reply(nil, badCommand("client: "+*named.Client+" is not connected"))
		return
	}
	begun := make(chan struct{})
	r.begun = sync.OnceFunc(func() { close(begun) })
	go func() {
		defer r.begun()
		r.reply(handle(r))
	}()
	<-begun
}

func (r *run) reply(ok any, err error) {
	if err != nil {
		r.write(map[string]any{"id": r.id, "error": errorLine(err)})
		return
	}
	r.write(map[string]any{"id": r.id, "ok": ok})
}

func (r *run) note(note any) { r.write(map[string]any{"id": r.id, "note": note}) }
