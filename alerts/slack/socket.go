package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/gorilla/websocket"
	slackgo "github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/secret"
)

const (
	// Between tries to connect after Slack refused the token.
	reconnectFirst, reconnectMost = 10 * time.Second, 5 * time.Minute
	// maxWaiting bounds the clicks that wait for the ones before; more are lost, and
	// Slack shows that to who clicked.
	maxWaiting = 100
	// maxFrame bounds a message from Slack.
	maxFrame = 1 << 20
	// handshakeTime bounds making a connection.
	handshakeTime = 10 * time.Second
	// frameBuffer is larger than any answer, so that Slack gets it in one piece.
	frameBuffer = 32 << 10
)

// Socket is the connection of an app to Slack's Socket Mode, through which clicks come
// in where Slack cannot reach us. Each app needs one, however many sinks it has.
type Socket struct {
	clicker
	conf Config

	mu      sync.Mutex
	trouble string
}

// NewSocket returns the connection of the app of a valid configuration with an app token.
// It connects to nothing yet.
func NewSocket(conf Config, acts Acts, log *slog.Logger) *Socket {
	return &Socket{clicker: newClicker(acts, log), conf: conf, trouble: "the connection for clicks on buttons is not made yet"}
}

// App tells connections of different apps apart.
func (s *Socket) App() secret.String { return s.conf.AppToken }

// Trouble says why no clicks come in, and how to mend it; empty while they do.
func (s *Socket) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Run keeps the connection until ctx ends: it connects anew when Slack asks for it or the
// connection breaks, and goes on trying while it cannot. What was clicked is acknowledged
// at once and then done in order. No goroutine of it is left when it returns. It may be
// called once.
func (s *Socket) Run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	var workers sync.WaitGroup
	defer workers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	clicks := make(chan *slackgo.InteractionCallback, maxWaiting)
	workers.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case cb := <-clicks:
				s.click(ctx, cb)
			}
		}
	})
	retry := &backoff.ExponentialBackOff{InitialInterval: reconnectFirst, MaxInterval: reconnectMost, Multiplier: 2, RandomizationFactor: 0.5}
	pace := NewPace(0)
	for ctx.Err() == nil {
		c := socketmode.New(s.conf.api("", s.client, pace, slackgo.OptionAppLevelToken(s.conf.AppToken.Reveal())),
			socketmode.OptionReadLimit(maxFrame),
			socketmode.OptionLog(slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)),
			socketmode.OptionDialer(&websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: handshakeTime, WriteBufferSize: frameBuffer}))
		ended := make(chan struct{})
		var listener sync.WaitGroup
		listener.Go(func() { s.listen(ctx, c, clicks, ended, retry) })
		err := c.RunContext(ctx)
		close(ended)
		listener.Wait()
		if ctx.Err() != nil {
			return
		}
		// Only what a retry will not mend ends it.
		s.failed(err)
		wait := time.NewTimer(retry.NextBackOff())
		select {
		case <-ctx.Done():
			wait.Stop()
		case <-wait.C:
		}
	}
}

// listen takes what the connection tells of, until it ended for good.
func (s *Socket) listen(ctx context.Context, c *socketmode.Client, clicks chan<- *slackgo.InteractionCallback, ended <-chan struct{}, retry *backoff.ExponentialBackOff) {
	for {
		var e socketmode.Event
		select {
		case <-ended:
			return
		case e = <-c.Events:
		}
		switch data := e.Data.(type) {
		case *slackgo.ConnectionErrorEvent:
			s.failed(data.ErrorObj)
		case *socketmode.ConnectedEvent:
			retry.Reset()
			s.mu.Lock()
			news := s.trouble != ""
			s.trouble = ""
			s.mu.Unlock()
			if news {
				s.log.Info("connected to Slack; buttons work")
			}
		case slackgo.InteractionCallback:
			if e.Request == nil {
				continue
			}
			if options := s.suggest(ctx, &data); options != nil {
				_ = c.AckCtx(ctx, e.Request.EnvelopeID, options) // Slack asks again
				continue
			}
			if c.AckCtx(ctx, e.Request.EnvelopeID, nil) != nil {
				continue
			}
			select {
			case clicks <- &data:
			default:
				s.log.Warn("too many clicks at once; one is lost")
			}
		}
	}
}

// failed notes why there is no connection, and logs it when that is new.
func (s *Socket) failed(err error) {
	text := "the connection for clicks on buttons cannot be made"
	if err != nil {
		if _, known := errors.AsType[*alerts.Error](err); !known && code(err) == "" {
			err = alerts.TransportError(err)
		}
		text = fmt.Sprintf("%s: %v", text, classifyApp(err))
	}
	s.mu.Lock()
	news := s.trouble != text
	s.trouble = text
	s.mu.Unlock()
	if news {
		s.log.Warn("buttons in Slack do not work; trying again", "error", text)
	}
}
