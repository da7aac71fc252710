// Package slackfake is a Slack for tests: an HTTP server with the calls that
// denywatch makes, a memory of channels, messages and threads, and faults on
// demand. It keeps Slack's rules that matter here: unique time stamps, history
// by channel id only and newest first in pages, metadata only when asked for,
// edits and replies only of messages that exist, and the limits of Block Kit.
//
// Nothing of production imports it.
package slackfake

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"
)

// Token is the bot token that the server accepts, AppToken the app-level one.
const (
	Token    = "xoxb-1111-2222-fakefakefake"
	AppToken = "xapp-1-A1-2222-fakefakefake"
)

// Message is one message in a channel or a thread.
type Message struct {
	// Channel is the channel's id. TS is the message's address, ThreadTS that of
	// the thread's first message for a reply.
	Channel  string
	TS       string
	ThreadTS string
	Text     string
	// Blocks and Attachments are the JSON last sent.
	Blocks      json.RawMessage
	Attachments json.RawMessage
	// EventType and Payload are the metadata.
	EventType string
	Payload   map[string]any
	// Edits counts the calls of chat.update.
	Edits int
}

// Fault is what happens to calls instead of the ordinary answer. The first of
// Hang, Drop, Status, Body and Error that is set counts.
type Fault struct {
	// Method is the call, as "chat.postMessage" ("webhook" for an incoming
	// webhook); empty for any.
	Method string
	// Times is how many calls it hits; 0 for all from now on, until Clear.
	Times int
	// Skip lets that many calls through first.
	Skip int
	// Hang never answers.
	Hang bool
	// Drop does what was asked, then breaks the connection without an answer.
	Drop bool
	// Status is an HTTP status; RetryAfter its header of that name, if set.
	Status     int
	RetryAfter string
	// Body is sent with status 200 as it is, and nothing is done.
	Body string
	// Error is the code of an answer {"ok":false}.
	Error string
}

// Server is the fake. All methods are safe for concurrent use.
type Server struct {
	listener net.Listener
	http     *http.Server
	closed   chan struct{}

	mu       sync.Mutex
	channels map[string]string // name -> id
	files    map[string]*File
	missing  map[string]bool // scopes
	sockets  sockets
	messages []*Message
	calls    []string
	faults   []*Fault
	clock    int64 // last time stamp, microseconds
	pageSize int
	looks    int

	connected int
	left      sync.Cond // a connection was closed
}

// New starts a server that ends with the test.
func New(tb testing.TB) *Server {
	tb.Helper()
	s, err := Start()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// Start starts a server on a free local port, with the channel #access-walls.
func Start() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("slackfake: listen: %w", err)
	}
	s := &Server{listener: l, closed: make(chan struct{}), channels: map[string]string{"access-walls": "C0ACCESSWALLS"}, files: map[string]*File{}, missing: map[string]bool{}, sockets: sockets{heard: make(chan struct{}, 1)}, pageSize: 100}
	s.left.L = &s.mu
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ConnState: s.connection}
	go func() { _ = s.http.Serve(l) }()
	return s, nil
}

// Close ends the server and all calls that hang in it.
func (s *Server) Close() {
	select {
	case <-s.closed:
		return
	default:
	}
	close(s.closed)
	_ = s.http.Close()
}

// connection counts the connections there are.
func (s *Server) connection(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.connected++
	case http.StateClosed, http.StateHijacked:
		s.connected--
		s.left.Broadcast()
	case http.StateActive, http.StateIdle:
	}
}

// Settle waits until every connection was closed by its client: whatever clients
// sent that are gone has had its effect by then. There must be no others.
func (s *Server) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.connected > 0 {
		s.left.Wait()
	}
}

// File is an uploaded file.
type File struct {
	ID      string
	Title   string
	Content []byte
	// Done tells that the upload was completed. Until Looks further messages that want to
	// show it are refused, as Slack does while it looks at a new file.
	Done  bool
	Looks int
}

// Files returns the files there are, by id.
func (s *Server) Files() []File {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []File
	for _, id := range slices.Sorted(maps.Keys(s.files)) {
		out = append(out, *s.files[id])
	}
	return out
}

// DeleteFile removes a file, as a person would.
func (s *Server) DeleteFile(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, id)
}

// Without makes calls that need one of the scopes answer missing_scope.
func (s *Server) Without(scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sc := range scopes {
		s.missing[sc] = true
	}
}

// scopes are what calls need, as far as the fake looks. Its channels are public; only
// a list of the others needs groups:read.
var scopes = map[string]string{
	"chat.postMessage": "chat:write", "chat.update": "chat:write", "chat.delete": "chat:write",
	"files.getUploadURLExternal": "files:write", "files.completeUploadExternal": "files:write", "files.delete": "files:write",
	"conversations.history": "channels:history", "conversations.replies": "channels:history", "conversations.list": "channels:read",
	"apps.connections.open": "connections:write",
}

// URL is the API's base address, for api_url; it ends in a slash.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() + "/api/" }

// WebhookURL is the address of an incoming webhook to #access-walls.
func (s *Server) WebhookURL() string {
	return "http://" + s.listener.Addr().String() + "/services/T000/B000/hook-secret"
}

// AddChannel makes a channel and returns its id.
func (s *Server) AddChannel(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fmt.Sprintf("C%09d", len(s.channels))
	s.channels[name] = id
	return id
}

// SetPageSize bounds the messages in one page of history, whatever a call asks.
func (s *Server) SetPageSize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pageSize = n
}

// SetLooks sets File.Looks of the files to come.
func (s *Server) SetLooks(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = n
}

// Fail adds faults; the oldest that fits a call and is not used up hits it.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		s.faults = append(s.faults, &f)
	}
}

// Clear takes all faults away; calls that hang go on hanging.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Messages returns the messages of all channels that are not in a thread, in the
// order of their posting.
func (s *Server) Messages() []Message {
	return s.list(func(m *Message) bool { return m.ThreadTS == "" })
}

// Thread returns the replies to the message ts.
func (s *Server) Thread(ts string) []Message {
	return s.list(func(m *Message) bool { return m.ThreadTS == ts })
}

func (s *Server) list(want func(*Message) bool) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ms []Message
	for _, m := range s.messages {
		if want(m) {
			ms = append(ms, *m)
		}
	}
	return ms
}

// Delete removes a message (not its thread), as a person would.
func (s *Server) Delete(ts string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = slices.DeleteFunc(s.messages, func(m *Message) bool { return m.TS == ts })
}

// Post adds a message of somebody else's to #access-walls.
func (s *Server) Post(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, &Message{Channel: s.channels["access-walls"], TS: s.stamp(), Text: text})
}

// Calls returns the methods called so far, in order.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// stamp returns a time stamp that no message has. s.mu is held.
func (s *Server) stamp() string {
	s.clock = max(s.clock+1, time.Now().UnixMicro())
	return fmt.Sprintf("%d.%06d", s.clock/1e6, s.clock%1e6)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method, ok := strings.CutPrefix(r.URL.Path, "/api/")
	hook := strings.HasPrefix(r.URL.Path, "/services/")
	upload, isUpload := strings.CutPrefix(r.URL.Path, "/upload/")
	switch {
	case r.URL.Path == "/socket":
		s.serveSocket(w, r)
		return
	case hook:
		method = "webhook"
	case isUpload:
		method = "upload"
	case !ok || r.ParseForm() != nil:
		http.NotFound(w, r)
		return
	}
	var body []byte
	if hook {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, 1<<20)); err != nil {
			return
		}
	}
	f := s.fault(method)
	if f != nil && f.Hang {
		select {
		case <-r.Context().Done():
		case <-s.closed:
		}
		return
	}
	if f != nil && !f.Drop {
		switch {
		case f.Status != 0:
			if f.RetryAfter != "" {
				w.Header().Set("Retry-After", f.RetryAfter)
			}
			w.WriteHeader(f.Status)
			_, _ = io.WriteString(w, "<html>trouble</html>")
		case f.Body != "":
			_, _ = io.WriteString(w, f.Body)
		default:
			answer(w, map[string]any{"ok": false, "error": f.Error})
		}
		return
	}
	var out map[string]any
	if hook {
		if code := s.hook(body); code != http.StatusOK && f == nil {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "invalid_payload")
			return
		}
	} else if isUpload {
		if !s.take(upload, r) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	} else {
		out = s.call(method, r)
	}
	if f != nil {
		panic(http.ErrAbortHandler) // breaks the connection
	}
	if hook || isUpload {
		_, _ = io.WriteString(w, "ok")
		return
	}
	answer(w, out)
}

func answer(w http.ResponseWriter, out map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

// fault notes the call and returns the fault that hits it.
func (s *Server) fault(method string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, method)
	for i, f := range s.faults {
		if f.Method != "" && f.Method != method {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		hit := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return &hit
	}
	return nil
}

// take stores what is uploaded for a file, which must have the announced length.
func (s *Server) take(id string, r *http.Request) bool {
	file, _, err := r.FormFile("file")
	if err != nil {
		return false
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, 1<<20))
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[id]
	if err != nil || f == nil || len(f.Content) != len(b) {
		return false
	}
	f.Content = b
	return true
}

func no(code string) map[string]any { return map[string]any{"ok": false, "error": code} }

func (s *Server) call(method string, r *http.Request) map[string]any {
	token := r.Form.Get("token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = bearer
	}
	if want := map[bool]string{true: AppToken, false: Token}[method == "apps.connections.open"]; token != want {
		return no("invalid_auth")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sc := scopes[method]
	if method == "conversations.list" && r.Form.Get("types") == "private_channel" {
		sc = "groups:read"
	}
	if s.missing[sc] {
		return map[string]any{"ok": false, "error": "missing_scope", "needed": sc}
	}
	switch method {
	case "files.getUploadURLExternal":
		n, err := strconv.Atoi(r.Form.Get("length"))
		if err != nil || n <= 0 || r.Form.Get("filename") == "" {
			return no("invalid_arguments")
		}
		id := fmt.Sprintf("F%08d", len(s.calls))
		s.files[id] = &File{ID: id, Content: make([]byte, n), Looks: s.looks}
		return map[string]any{"ok": true, "upload_url": "http://" + s.listener.Addr().String() + "/upload/" + id, "file_id": id}
	case "files.completeUploadExternal":
		var fs []struct{ ID, Title string }
		if json.Unmarshal([]byte(r.Form.Get("files")), &fs) != nil || len(fs) != 1 || s.files[fs[0].ID] == nil {
			return no("invalid_arguments")
		}
		f := s.files[fs[0].ID]
		f.Title, f.Done = fs[0].Title, true
		return map[string]any{"ok": true, "files": []map[string]any{{"id": f.ID, "title": f.Title}}}
	case "files.delete":
		if s.files[r.Form.Get("file")] == nil {
			return no("file_not_found")
		}
		delete(s.files, r.Form.Get("file"))
		return map[string]any{"ok": true}
	case "chat.delete":
		ts := r.Form.Get("ts")
		if s.find(ts) == nil {
			return no("message_not_found")
		}
		s.messages = slices.DeleteFunc(s.messages, func(m *Message) bool { return m.TS == ts })
		return map[string]any{"ok": true, "ts": ts}
	case "apps.connections.open":
		return map[string]any{"ok": true, "url": "ws://" + s.listener.Addr().String() + "/socket"}
	case "auth.test":
		return map[string]any{"ok": true, "url": "https://fake.slack.com/", "team": "fake", "user": "denywatch", "team_id": "T1", "user_id": "U1", "bot_id": "B1"}
	case "conversations.list":
		return s.channelList(r)
	case "chat.postMessage":
		return s.postMessage(r)
	case "chat.update":
		return s.update(r)
	case "conversations.history":
		return s.history(r, func(m *Message) bool { return m.ThreadTS == "" })
	case "conversations.replies":
		ts := r.Form.Get("ts")
		if s.find(ts) == nil && !slices.ContainsFunc(s.messages, func(m *Message) bool { return m.ThreadTS == ts }) {
			return no("thread_not_found")
		}
		return s.history(r, func(m *Message) bool { return m.ThreadTS == ts || m.TS == ts })
	}
	return no("unknown_method")
}

func (s *Server) channelList(r *http.Request) map[string]any {
	names := make([]string, 0, len(s.channels))
	for n := range s.channels {
		names = append(names, n)
	}
	slices.Sort(names)
	page, next := s.page(len(names), r)
	var cs []map[string]any
	for _, n := range names[page[0]:page[1]] {
		cs = append(cs, map[string]any{"id": s.channels[n], "name": n, "is_member": true})
	}
	return map[string]any{"ok": true, "channels": cs, "response_metadata": map[string]any{"next_cursor": next}}
}

// page cuts n items to the page that a call asks for.
func (s *Server) page(n int, r *http.Request) (bounds [2]int, next string) {
	size := s.pageSize
	if l, err := strconv.Atoi(r.Form.Get("limit")); err == nil && l > 0 {
		size = min(size, l)
	}
	from, _ := strconv.Atoi(strings.TrimPrefix(r.Form.Get("cursor"), "page-"))
	from = min(max(from, 0), n)
	to := min(from+size, n)
	if to < n {
		next = fmt.Sprintf("page-%d", to)
	}
	return [2]int{from, to}, next
}

// channel resolves what chat.postMessage takes: an id or a name.
func (s *Server) channel(v string) string {
	if id := s.channels[strings.TrimPrefix(v, "#")]; id != "" {
		return id
	}
	return s.channelID(v)
}

// channelID resolves what all other calls take: an id.
func (s *Server) channelID(v string) string {
	for _, id := range s.channels {
		if v == id {
			return id
		}
	}
	return ""
}

func (s *Server) find(ts string) *Message {
	for _, m := range s.messages {
		if m.TS == ts {
			return m
		}
	}
	return nil
}

func (s *Server) postMessage(r *http.Request) map[string]any {
	m := &Message{Channel: s.channel(r.Form.Get("channel")), ThreadTS: r.Form.Get("thread_ts")}
	if m.Channel == "" {
		return no("channel_not_found")
	}
	if m.ThreadTS != "" && s.find(m.ThreadTS) == nil {
		return no("thread_not_found")
	}
	if code := s.fill(m, r); code != "" {
		return no(code)
	}
	m.TS = s.stamp()
	s.messages = append(s.messages, m)
	return map[string]any{"ok": true, "channel": m.Channel, "ts": m.TS, "message": shown(m, true)}
}

func (s *Server) update(r *http.Request) map[string]any {
	channel := s.channelID(r.Form.Get("channel"))
	if channel == "" {
		return no("channel_not_found")
	}
	m := s.find(r.Form.Get("ts"))
	if m == nil || m.Channel != channel {
		return no("message_not_found")
	}
	edited := *m
	if code := s.fill(&edited, r); code != "" {
		return no(code)
	}
	edited.Edits++
	*m = edited
	return map[string]any{"ok": true, "channel": m.Channel, "ts": m.TS, "text": m.Text}
}

// fill takes over what a call sends; what it does not send stays.
func (s *Server) fill(m *Message, r *http.Request) (code string) {
	if r.Form.Has("text") {
		m.Text = r.Form.Get("text")
	}
	for _, f := range []struct {
		name string
		dst  *json.RawMessage
	}{{"blocks", &m.Blocks}, {"attachments", &m.Attachments}} {
		if !r.Form.Has(f.name) {
			continue
		}
		*f.dst = json.RawMessage(r.Form.Get(f.name))
	}
	if code := s.check(m); code != "" {
		return code
	}
	if r.Form.Has("metadata") {
		var meta struct {
			EventType string         `json:"event_type"`
			Payload   map[string]any `json:"event_payload"`
		}
		if json.Unmarshal([]byte(r.Form.Get("metadata")), &meta) != nil || meta.EventType == "" {
			return "invalid_metadata_format"
		}
		m.EventType, m.Payload = meta.EventType, meta.Payload
	}
	return ""
}

// The limits of messages (docs.slack.dev, reference/block-kit and chat.postMessage).
const (
	maxText, maxBlocks, maxHeader, maxSection, maxFields, maxField, maxElements, maxActions, maxLabel = 40000, 50, 150, 3000, 10, 2000, 10, 25, 75
)

// check says what Slack would find wrong with a message.
func (s *Server) check(m *Message) (code string) {
	if length(m.Text) > maxText {
		return "msg_too_long"
	}
	n, ok := s.count(m.Blocks)
	if !ok {
		return "invalid_blocks"
	}
	if len(m.Attachments) > 0 {
		var as []struct {
			Blocks json.RawMessage `json:"blocks"`
		}
		if json.Unmarshal(m.Attachments, &as) != nil {
			return "invalid_attachments"
		}
		for _, a := range as {
			k, ok := s.count(a.Blocks)
			if !ok {
				return "invalid_blocks"
			}
			n += k
		}
	}
	if m.Text == "" && n == 0 {
		return "no_text"
	}
	return ""
}

type text struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// fits checks a text object.
func (t *text) fits(most int, types ...string) bool {
	return t.Text != "" && length(t.Text) <= most && slices.Contains(types, t.Type)
}

func length(s string) int { return len(utf16.Encode([]rune(s))) }

// count checks blocks.
func (s *Server) count(raw json.RawMessage) (n int, ok bool) {
	if len(raw) == 0 {
		return 0, true
	}
	var bs []struct {
		Type      string            `json:"type"`
		Text      *text             `json:"text"`
		Fields    []text            `json:"fields"`
		Elements  []json.RawMessage `json:"elements"`
		AltText   string            `json:"alt_text"`
		SlackFile struct {
			ID string `json:"id"`
		} `json:"slack_file"`
	}
	if json.Unmarshal(raw, &bs) != nil || len(bs) > maxBlocks {
		return 0, false
	}
	for _, b := range bs {
		good := false
		switch b.Type {
		case "header":
			good = b.Text != nil && b.Text.fits(maxHeader, "plain_text")
		case "section":
			good = (b.Text != nil || len(b.Fields) > 0) && len(b.Fields) <= maxFields &&
				(b.Text == nil || b.Text.fits(maxSection, "plain_text", "mrkdwn"))
			for i := range b.Fields {
				good = good && b.Fields[i].fits(maxField, "plain_text", "mrkdwn")
			}
		case "context":
			good = len(b.Elements) > 0 && len(b.Elements) <= maxElements
			for i := range b.Elements {
				var e text
				good = good && json.Unmarshal(b.Elements[i], &e) == nil && e.fits(maxSection, "plain_text", "mrkdwn")
			}
		case "image":
			f := s.files[b.SlackFile.ID]
			good = b.AltText != "" && length(b.AltText) <= maxField && f != nil && f.Done
			if good && f.Looks > 0 {
				f.Looks--
				good = false
			}
		case "actions":
			good = len(b.Elements) > 0 && len(b.Elements) <= maxActions
			for i := range b.Elements {
				good = good && clickable(b.Elements[i])
			}
		case "divider":
			good = true
		}
		if !good {
			return 0, false
		}
	}
	return len(bs), true
}

// clickable checks a button or a choice.
func clickable(raw json.RawMessage) bool {
	var e struct {
		Type        string `json:"type"`
		Text        text   `json:"text"`
		Placeholder text   `json:"placeholder"`
		ActionID    string `json:"action_id"`
		Value       string `json:"value"`
		Options     []struct {
			Text  text   `json:"text"`
			Value string `json:"value"`
		} `json:"options"`
		Confirm *struct{ Title, Text, Confirm, Deny text } `json:"confirm"`
	}
	if json.Unmarshal(raw, &e) != nil || e.ActionID == "" || len(e.ActionID) > 255 {
		return false
	}
	if c := e.Confirm; c != nil && (!c.Title.fits(100, "plain_text") || !c.Text.fits(300, "plain_text", "mrkdwn") || !c.Confirm.fits(30, "plain_text") || !c.Deny.fits(30, "plain_text")) {
		return false
	}
	if e.Type == "button" {
		return e.Text.fits(maxLabel, "plain_text") && len(e.Value) <= maxField
	}
	for _, o := range e.Options {
		if !o.Text.fits(maxLabel, "plain_text") || o.Value == "" || len(o.Value) > 150 {
			return false
		}
	}
	return e.Placeholder.fits(150, "plain_text") && (e.Type == "static_select" && len(e.Options) > 0 || e.Type == "external_select" && len(e.Options) == 0)
}

func (s *Server) history(r *http.Request, want func(*Message) bool) map[string]any {
	channel := s.channelID(r.Form.Get("channel"))
	if channel == "" {
		return no("channel_not_found")
	}
	oldest, _ := strconv.ParseFloat(r.Form.Get("oldest"), 64)
	var ms []*Message
	for _, m := range s.messages {
		at, _ := strconv.ParseFloat(m.TS, 64)
		if m.Channel == channel && want(m) && at > oldest {
			ms = append(ms, m)
		}
	}
	if r.Form.Get("ts") == "" {
		slices.Reverse(ms) // history is newest first, a thread oldest first
	}
	page, next := s.page(len(ms), r)
	out := []map[string]any{}
	for _, m := range ms[page[0]:page[1]] {
		out = append(out, shown(m, r.Form.Get("include_all_metadata") == "1"))
	}
	return map[string]any{"ok": true, "messages": out, "has_more": next != "", "response_metadata": map[string]any{"next_cursor": next}}
}

func shown(m *Message, metadata bool) map[string]any {
	out := map[string]any{"type": "message", "ts": m.TS, "text": m.Text, "bot_id": "B1"}
	if m.ThreadTS != "" {
		out["thread_ts"] = m.ThreadTS
	}
	if metadata && m.EventType != "" {
		out["metadata"] = map[string]any{"event_type": m.EventType, "event_payload": m.Payload}
	}
	return out
}

// hook posts what an incoming webhook got.
func (s *Server) hook(body []byte) (status int) {
	var in struct {
		Text        string          `json:"text"`
		Blocks      json.RawMessage `json:"blocks"`
		Attachments json.RawMessage `json:"attachments"`
	}
	if json.Unmarshal(body, &in) != nil {
		return http.StatusBadRequest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &Message{Channel: s.channels["access-walls"], Text: in.Text, Blocks: in.Blocks, Attachments: in.Attachments}
	if s.check(m) != "" {
		return http.StatusBadRequest
	}
	m.TS = s.stamp()
	s.messages = append(s.messages, m)
	return http.StatusOK
}
