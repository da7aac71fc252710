package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/web"
)

// Who implements web.Backend.
func (b backend) Who(ctx context.Context, hash uint64, account bool) (out web.Refused, err error) {
	err = b.d.core.post(ctx, func() {
		out = b.d.core.who(hash, account)
	})
	return out, err
}

// Person is somebody as logs call them: a user, or an account, or a client's address;
// an account and an address are somebody of that account there.
type Person struct{ User, Account, Client string }

// Who asks a daemon where somebody was refused. They are hashed here, with the key
// of the configuration or its state folder: the daemon is not told who it is.
func Who(ctx context.Context, cfg *configs.Config, cl *client.Client, p Person) (client.Refused, error) {
	switch {
	case p == (Person{}):
		return client.Refused{}, errors.New("say who: --user, --account or --client, as the logs have it")
	case p.User != "" && (p.Account != "" || p.Client != ""):
		return client.Refused{}, errors.New("a user is enough; leave --account and --client out")
	}
	var key collect.IdentityKey
	var err error
	if shared := cfg.IdentityKey.Reveal(); shared != "" {
		key = collect.SharedIdentityKey(shared)
	} else {
		key, err = collect.ReadIdentityKey(cfg.State)
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return client.Refused{}, fmt.Errorf("%w: only who may read the state folder may ask who was refused", err)
	case errors.Is(err, os.ErrNotExist):
		return client.Refused{}, fmt.Errorf("%w: ask on the daemon's host, with its configuration", err)
	case err != nil:
		return client.Refused{}, err
	}
	if p.Account != "" && p.Client == "" {
		return cl.Who(ctx, key.Hash([]byte(p.Account)), true)
	}
	return cl.Who(ctx, key.Person(p.User, p.Account, p.Client), false)
}

// DescribeRefused writes where somebody was refused, for a terminal.
func DescribeRefused(r *client.Refused) string {
	var b strings.Builder
	since := "nobody is remembered yet"
	if !r.Since.IsZero() {
		since = "remembered since " + r.Since.UTC().Format("Mon 2 Jan 15:04")
	}
	if len(r.Refusals) == 0 {
		b.WriteString("Not refused, as far as is known (" + since + ").\n")
	} else {
		fmt.Fprintf(&b, "Refused (%s):\n", since)
	}
	for i := range r.Refusals {
		x := &r.Refusals[i]
		where := alerts.Clean(x.Route, maxShown)
		for _, v := range [...][2]string{{"role", x.Role}, {"country", x.Geo}, {"service", x.Service}} {
			if v[1] != "" {
				where += ", " + v[0] + " " + alerts.Clean(v[1], maxShown)
			}
		}
		by := ""
		if x.Layer != "" && x.Layer != "unknown" {
			by = " by the " + printable(x.Layer)
		}
		if x.Cause != "" {
			by += " (" + alerts.Clean(x.Cause, maxShown) + ")"
		}
		part := ", part of no incident"
		switch {
		case x.Class == event.Valid.String() && x.Rule == "":
			part = ", as an access rule says"
		case x.Class == event.Valid.String():
			part = ", as your access rule says: " + alerts.Clean(x.Rule, maxLine)
		case len(x.Incidents) > 0:
			part = ", incident " + printable(strings.Join(x.Incidents, ", "))
		}
		fmt.Fprintf(&b, "  %s  %s: %s%s, seen from the %s%s\n", fromTo(x.From.UTC(), x.To.UTC()), where, count(int(x.Denials), "refusal", "refusals"), by, printable(x.Vantage), part)
	}
	if r.Incomplete {
		b.WriteString("In busy minutes not everybody could be remembered.\n")
	}
	if !r.RulesSince.IsZero() {
		b.WriteString("Of refusals that the access rules ask for not all are remembered, and since " + r.RulesSince.UTC().Format("Mon 2 Jan 15:04") + "; denywatch check --route says what they ask for.\n")
	}
	return b.String()
}
