package detector

import "time"

// Probation is how long after a marker the old epoch judges the new behaviour,
// in event time.
const Probation = time.Duration(probation) * time.Second

// Configure replaces the configuration of a detector in use; baselines and
// incidents stay. The configuration must be valid.
func (d *Detector) Configure(cfg Config) {
	d.cfg = cfg
	for _, j := range d.judges {
		j.learn = int64(cfg.Learn / time.Second)
		j.configure(&cfg)
		j.h = 0 // computed anew when the next slot closes
	}
}
