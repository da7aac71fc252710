package alerts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors of Resend and Drop.
var (
	// ErrNoLetter: there is no dead letter of that id.
	ErrNoLetter = errors.New("there is no dead letter of this id")
	// ErrNotSendable: the record could not be read, or its sink is not configured.
	ErrNotSendable = errors.New("it can only be dropped")
)

// DeadLetters returns the deliveries that were given up, the oldest first.
func (o *Outbox) DeadLetters() ([]DeadLetter, error) {
	var ls []DeadLetter
	err := o.store.View(BucketDead, func(key string, value []byte) error {
		var l DeadLetter
		if err := json.Unmarshal(value, &l); err != nil {
			return fmt.Errorf("alerts: a dead letter cannot be read: %w", err)
		}
		l.ID = strings.Clone(key)
		ls = append(ls, l)
		return nil
	})
	return ls, err
}

// Knows reports whether a sink of that name is configured.
func (o *Outbox) Knows(sink string) bool { return slices.Contains(o.names, sink) }

// Dead is how many dead letters are kept.
func (o *Outbox) Dead() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.dead)
}

// Resend puts a dead letter back into the queue of its place, behind what waits there,
// durably. The sink sees the same key and, if its fate was not known, a try after an
// uncertain one.
func (o *Outbox) Resend(id string) error {
	o.commits.Lock()
	defer o.commits.Unlock()
	l, err := o.letter(id)
	if err != nil {
		return err
	}
	d := l.Delivery
	s := o.sinks[d.Sink]
	switch {
	case l.Raw != nil:
		return fmt.Errorf("alerts: dead letter %s: its record could not be read: %w", id, ErrNotSendable)
	case s == nil:
		return fmt.Errorf("alerts: dead letter %s: sink %s is not configured any more: %w", id, Clean(d.Sink, maxSinkName), ErrNotSendable)
	}
	d.ResentAt, d.LastError = time.Now().UTC(), ""
	o.mu.Lock()
	d.Seq = o.next
	o.next++
	o.mu.Unlock()
	if err := o.store.Update(func(tx Tx) error {
		if err := tx.Delete(BucketDead, id); err != nil {
			return err
		}
		return put(tx, BucketOutbox, d.storeKey(), &d)
	}); err != nil {
		return fmt.Errorf("alerts: resend dead letter %s: %w", id, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unburied(id)
	o.enter(&d)
	s.poke()
	return nil
}

// Drop forgets a dead letter, durably.
func (o *Outbox) Drop(id string) error {
	o.commits.Lock()
	defer o.commits.Unlock()
	if _, err := o.letter(id); err != nil {
		return err
	}
	if err := o.store.Update(func(tx Tx) error { return tx.Delete(BucketDead, id) }); err != nil {
		return fmt.Errorf("alerts: drop dead letter %s: %w", id, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unburied(id)
	return nil
}

// letter returns a dead letter.
func (o *Outbox) letter(id string) (*DeadLetter, error) {
	ls, err := o.DeadLetters()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(ls, func(l DeadLetter) bool { return l.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("alerts: %w", ErrNoLetter)
	}
	return &ls[i], nil
}

// unburied forgets a dead letter that is none any more. o.mu is held.
func (o *Outbox) unburied(id string) {
	o.dead = slices.DeleteFunc(o.dead, func(k string) bool { return k == id })
}
