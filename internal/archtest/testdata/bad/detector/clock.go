package detector

import "time"

func clock() {
	_ = time.Now()
	_ = time.Since(time.Time{})
	_ = time.Until(time.Time{})
	<-time.After(1)
	time.AfterFunc(1, nil)
	<-time.Tick(1)
	time.NewTimer(1)
	time.NewTicker(1)
	time.Sleep(1)
}
