package web

import (
	"net/http"
	"strconv"
)

// getWho tells where somebody was refused. It is asked by a keyed hash, which only who
// can read the identity key can make: names and addresses never get here.
func (s *Server) getWho(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "identity", "account")
	if err != nil {
		return err
	}
	text, account := q["identity"], false
	if v, given := q["account"]; given {
		text, account = v, true
	}
	hash, err := strconv.ParseUint(text, 16, 64)
	if err != nil || len(q) != 1 || len(text) != 16 {
		return refuse(http.StatusBadRequest, "identity or account must be given, a hash of 16 hexadecimal digits", "ask with denywatch who, which makes it with the identity key")
	}
	found, err := s.backend.Who(r.Context(), hash, account)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, found)
}
