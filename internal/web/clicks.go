package web

import (
	"context"
	"net/http"
)

// Clicks takes the signed requests by which Slack tells of clicks on buttons. It is
// called concurrently.
type Clicks interface {
	// Take does what a request asks for and returns the status to answer, and the JSON if
	// Slack asked for any; the error says why it is not 200. It checks the signature of
	// the body and that it is new.
	Take(ctx context.Context, h http.Header, body []byte) (status int, answer []byte, err error)
}

// maxClick bounds the body of a click: Slack sends the whole message along.
const maxClick = 256 << 10

// postClick takes a request of Slack's. Whoever can reach the listener may send one: only
// signed ones do anything.
func (s *Server) postClick(w http.ResponseWriter, r *http.Request) error {
	if s.clicks == nil {
		return refuse(http.StatusNotFound, "clicks in Slack are not taken here", "configure sinks.slack.signing_secret")
	}
	body, err := readAll(w, r, maxClick)
	if err != nil {
		return err
	}
	switch status, answer, err := s.clicks.Take(r.Context(), r.Header, body); status {
	case http.StatusOK:
		kind := plain
		if answer != nil {
			kind = "application/json"
		}
		write(w, http.StatusOK, kind, answer)
	case http.StatusUnauthorized:
		return s.unknownCaller(r, err.Error(), "give sinks.slack.signing_secret the Signing Secret of the app's Basic Information, and check this host's clock")
	default:
		return refuse(status, err.Error(), "Slack sends each click once; click again")
	}
	return nil
}
