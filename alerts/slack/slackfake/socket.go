package slackfake

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// sockets are the connections of Socket Mode.
type sockets struct {
	mu    sync.Mutex
	conns []*websocket.Conn
	acks  []string
	said  map[string]json.RawMessage // with an acknowledgement, by envelope
	heard chan struct{}              // one token: something changed
	taken int
}

func (k *sockets) changed() {
	select {
	case k.heard <- struct{}{}:
	default:
	}
}

// serveSocket keeps a connection of Socket Mode: it greets and pings as Slack does, and
// notes what is acknowledged.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }} // clients name Slack
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	k := &s.sockets
	k.mu.Lock()
	k.conns = append(k.conns, c)
	k.taken++
	err = c.WriteJSON(map[string]any{"type": "hello", "num_connections": 1, "connection_info": map[string]any{"app_id": "A1"}})
	k.changed()
	k.mu.Unlock()
	defer func() {
		_ = c.Close()
		k.mu.Lock()
		k.conns = slices.DeleteFunc(k.conns, func(o *websocket.Conn) bool { return o == c })
		k.changed()
		k.mu.Unlock()
	}()
	go func() {
		// What was hijacked does not end with the server.
		<-s.closed
		_ = c.Close()
	}()
	for err == nil {
		var in struct {
			ID      string          `json:"envelope_id"`
			Payload json.RawMessage `json:"payload"`
		}
		if err = c.ReadJSON(&in); err == nil && in.ID != "" {
			k.mu.Lock()
			k.acks = append(k.acks, in.ID)
			if k.said == nil {
				k.said = map[string]json.RawMessage{}
			}
			k.said[in.ID] = in.Payload
			k.changed()
			k.mu.Unlock()
		}
	}
}

// Push sends a payload of interactivity through the newest connection, under an
// envelope's id, and reports whether there is one.
func (s *Server) Push(id string, payload json.RawMessage) bool {
	return s.tell(map[string]any{"type": "interactive", "envelope_id": id, "accepts_response_payload": false, "payload": payload})
}

// Disconnect asks the newest connection to be made anew, as Slack does every few hours.
func (s *Server) Disconnect() bool {
	return s.tell(map[string]any{"type": "disconnect", "reason": "refresh_requested"})
}

// Ping pings every connection.
func (s *Server) Ping() {
	k := &s.sockets
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		_ = c.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
	}
}

// Cut breaks all connections without a word.
func (s *Server) Cut() {
	k := &s.sockets
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		_ = c.NetConn().Close()
	}
}

func (s *Server) tell(v any) bool {
	k := &s.sockets
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.conns) > 0 && k.conns[len(k.conns)-1].WriteJSON(v) == nil
}

// Sockets returns how many connections there are, how many there were, and the envelopes
// that were acknowledged so far.
func (s *Server) Sockets() (now, ever int, acks []string) {
	k := &s.sockets
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.conns), k.taken, slices.Clone(k.acks)
}

// Answer returns what was said with the acknowledgement of an envelope.
func (s *Server) Answer(id string) json.RawMessage {
	k := &s.sockets
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.said[id]
}

// Changed tells with a token that Sockets may return something else.
func (s *Server) Changed() <-chan struct{} { return s.sockets.heard }
