package markers

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/marker"
)

// argoTool begins the ids of Argo CD's markers.
const argoTool = "argocd"

// argoEvent is what our template for Argo CD sends
// (configs/deploy/argocd-notifications.yaml): fields of the Application, and what
// the team adds by labels.
type argoEvent struct {
	App        string    `json:"app"`
	Revision   string    `json:"revision"`
	Phase      string    `json:"phase"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Images     []string  `json:"images"`
	// Service, Version and Environment may be null or empty.
	Service     string `json:"service"`
	Version     string `json:"version"`
	Environment string `json:"environment"`
}

// ArgoCD makes the marker of a notification: of a sync that succeeded. Which
// applications are told of is decided by their subscriptions; if the template sends
// an environment it must be one that users see. The error is an *Ignored, or says
// that the body is not what the template sends. The marker is not normalised yet.
func (a *Adapters) ArgoCD(body []byte) (marker.Marker, error) {
	var e argoEvent
	if err := json.Unmarshal(body, &e); err != nil {
		return marker.Marker{}, fmt.Errorf("the body is not what the template argocd-notifications.yaml of denywatch sends: %w", err)
	}
	switch {
	case e.App == "" || e.FinishedAt.IsZero():
		return marker.Marker{}, errors.New("app or finished_at is missing; take the template argocd-notifications.yaml of denywatch")
	case e.Phase != "" && e.Phase != "Succeeded":
		return marker.Marker{}, ignored("the sync's phase is %s; it is a marker when it is Succeeded", clip(e.Phase))
	}
	v := e.Version
	if v == "" {
		v = imageTag(e.Images)
	}
	if v == "" {
		v = version(e.Revision, e.Revision)
	}
	return a.marker(&deployment{
		tool: argoTool, what: e.App, environment: e.Environment, service: e.Service, version: v,
		number: version("", e.Revision) + "-" + e.FinishedAt.UTC().Format("20060102T150405Z"),
		began:  e.StartedAt, ended: e.FinishedAt,
	})
}

// imageTag is the tag that all images have, empty if they differ (side-cars) or
// have none.
func imageTag(images []string) string {
	tag := ""
	for _, image := range images {
		name, _, _ := strings.Cut(image, "@") // without the digest
		name = name[strings.LastIndexByte(name, '/')+1:]
		_, t, _ := strings.Cut(name, ":")
		if t == "" || tag != "" && tag != t {
			return ""
		}
		tag = t
	}
	return tag
}
