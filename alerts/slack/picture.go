package slack

import (
	"bytes"
	"context"
	"errors"
	"time"

	slackgo "github.com/slack-go/slack"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

const (
	// pictureTime bounds all that is done for a picture.
	pictureTime = 15 * time.Second
	// fileTries is how often a new file is tried to be shown: Slack looks at it for a
	// moment before it can be.
	fileTries = 4
)

// picture brings the picture in the message to d's transition, if that changed what it
// shows. It fails nothing: without it the message says all the same.
func (n *Notifier) picture(ctx context.Context, d *alerts.Delivery, m *memory) {
	switch d.Transition.Kind {
	case incident.Opened, incident.Grew, incident.ResolvedKind, incident.Reopened, incident.Escalated, incident.MergedKind, incident.Split:
	default:
		return
	}
	if n.opt.Chart == nil || m.FileSeq >= d.Transition.Seq {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pictureTime)
	defer cancel()
	png, err := n.opt.Chart(ctx, d.Transition.Incident.ID)
	if err != nil || len(png) == 0 {
		n.log.Debug("there is no picture of the incident", "delivery", d.Key, "error", err)
		return
	}
	old := m.File
	file, err := n.upload(ctx, d, png)
	if err != nil {
		if n.first("upload " + code(err)) {
			n.log.Warn("a message goes without its picture, which cannot be uploaded", "delivery", d.Key, "error", classify(err))
		}
		return
	}
	if err := n.show(ctx, d, m, file); err != nil {
		if n.first("picture " + code(err)) {
			n.log.Warn("a message goes without its picture, which cannot be shown", "delivery", d.Key, "error", err)
		}
		old = file
	} else {
		m.File, m.FileSeq = file, d.Transition.Seq
	}
	if old != "" {
		if err := n.api.DeleteFileContext(ctx, old); err != nil && code(err) != "file_not_found" && code(err) != "file_deleted" && n.first("delete "+code(err)) {
			n.log.Warn("an old picture cannot be deleted", "delivery", d.Key, "error", classify(err))
		}
	}
}

// upload makes a file of a picture, which is seen where a message shows it.
func (n *Notifier) upload(ctx context.Context, d *alerts.Delivery, png []byte) (file string, err error) {
	name := "refused-" + d.Transition.At.UTC().Format("20060102-150405") + ".png"
	place, err := n.api.GetUploadURLExternalContext(ctx, slackgo.GetUploadURLExternalParameters{FileName: name, FileSize: len(png), AltTxt: altText})
	if err != nil {
		return "", err
	}
	if err := n.api.UploadToURL(ctx, slackgo.UploadToURLParameters{UploadURL: place.UploadURL, Reader: bytes.NewReader(png), Filename: name}); err != nil {
		return "", err
	}
	done, err := n.api.CompleteUploadExternalContext(ctx, slackgo.CompleteUploadExternalParameters{Files: []slackgo.FileSummary{{ID: place.FileID, Title: altText}}})
	if err != nil {
		return "", err
	}
	if len(done.Files) != 1 || done.Files[0].ID == "" {
		return "", errors.New("the upload's answer names no file")
	}
	return done.Files[0].ID, nil
}

// show puts a file into the message.
func (n *Notifier) show(ctx context.Context, d *alerts.Delivery, m *memory, file string) error {
	c := n.card(d.Transition, file)
	if m.Born == d.Transition.Seq {
		c.mention(d.Mention)
	}
	for try := 1; ; try++ {
		_, _, _, err := n.api.SendMessageContext(ctx, m.Channel, append(common(d, partMessage), append(c.options(), slackgo.MsgOptionUpdate(m.TS))...)...)
		if !isPayload(err) || try == fileTries {
			return classify(err)
		}
		wait := time.NewTimer(n.opt.Pace.every)
		select {
		case <-ctx.Done():
			wait.Stop()
			return classify(err)
		case <-wait.C:
		}
	}
}
