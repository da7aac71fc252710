package parsers

// LineError says why a line could not be understood. It never holds text of the
// line, which is hostile and personal; the values below are the only ones, so
// returning one does not allocate.
type LineError struct {
	// Reason is one short word, fit for a metric label.
	Reason string
	text   string
}

// Error implements error.
func (e *LineError) Error() string { return e.text }

// The ways in which a line can fail.
var (
	// ErrShort: the line ends before the fields that every request must have.
	ErrShort = &LineError{Reason: "short", text: "the line ends too early for this format"}
	// ErrMismatch: the line has other text where the format has fixed text.
	ErrMismatch = &LineError{Reason: "mismatch", text: "the line does not follow the format"}
	// ErrTime: the time is no time, or outside of the years 1970 to 2200.
	ErrTime = &LineError{Reason: "time", text: "the time cannot be understood"}
	// ErrStatus: the status is not a number of three digits.
	ErrStatus = &LineError{Reason: "status", text: "the status is not a number of three digits"}
	// ErrNotObject: a line of a JSON log does not start with an object.
	ErrNotObject = &LineError{Reason: "not_object", text: "the line is not a JSON object"}
	// ErrRecords: an export request of OpenTelemetry with several records.
	ErrRecords = &LineError{Reason: "records", text: "several log records on one line; let the collector's batch processor send one at a time to its file exporter (send_batch_max_size: 1)"}
	// ErrSyntax: a JSON object is cut off or broken.
	ErrSyntax = &LineError{Reason: "syntax", text: "the JSON object is cut off or broken"}
)

// Skip is an ErrSkip that says what was skipped. errors.Is(err, ErrSkip) holds
// for it. Like LineError, it never holds text of the line.
type Skip struct {
	// Reason is one short word, fit for a metric label.
	Reason string
	text   string
}

// Error implements error.
func (s *Skip) Error() string { return s.text }

// Is makes a Skip an ErrSkip.
func (s *Skip) Is(target error) bool { return target == ErrSkip }

// The well-formed lines that are skipped on purpose.
var (
	// ErrSubrequest: the request of a worker at the edge, made for a visitor's
	// request that has a line of its own.
	ErrSubrequest = &Skip{Reason: "subrequest", text: "a worker's own request, not a visitor's"}
	// ErrSetup: what a log shipper sends to check its configuration.
	ErrSetup = &Skip{Reason: "setup", text: "a log shipper's test of its configuration"}
	// ErrConnection: a connection of a balancer that does not look into what passes.
	ErrConnection = &Skip{Reason: "connection", text: "a connection, not a request"}
	// ErrHousekeeping: what a storage does by itself.
	ErrHousekeeping = &Skip{Reason: "housekeeping", text: "what the storage does by itself, not a request"}
	// ErrNoStatus: a line without a status, such as the ordinary lines of an
	// application's log.
	ErrNoStatus = &Skip{Reason: "no_status", text: "no status, so not a request"}
	// ErrOtherLogger: a line of another logger than that of requests.
	ErrOtherLogger = &Skip{Reason: "other_logger", text: "another logger's line, not a request"}
	// ErrNotice: what a proxy says of itself, its servers and its configuration.
	ErrNotice = &Skip{Reason: "notice", text: "a message of the proxy's own, not a request"}
	// ErrNoRefusal: a line of an error log that explains no refusal.
	ErrNoRefusal = &Skip{Reason: "no_refusal", text: "explains no refusal"}
	// ErrHeader: a line that describes the lines after it.
	ErrHeader = &Skip{Reason: "header", text: "a header of the log, not a request"}
)

// The ways in which a wrapped line can fail, and the lines of a wrapper that are
// skipped on purpose.
var (
	// ErrWrapper: a line is not wrapped as the configuration says.
	ErrWrapper = &LineError{Reason: "wrapper", text: "the line is not wrapped as configured"}
	// ErrTooLong: a line in pieces is longer than 1 MiB.
	ErrTooLong = &LineError{Reason: "too_long", text: "a line in pieces is longer than 1 MiB"}
	// ErrFrames: a line holds more than the one frame whose length it begins with;
	// whoever received it has not cut the stream of frames.
	ErrFrames = &LineError{Reason: "frames", text: "several syslog frames on one line; have the receiver write one a line"}
	// ErrMessage: the wrapper holds no message, as journalctl does for long ones
	// without --all.
	ErrMessage = &LineError{Reason: "message", text: "the wrapper holds no message; give journalctl --all"}
	// ErrPiece: a line that is not yet complete.
	ErrPiece = &Skip{Reason: "piece", text: "a piece of a line"}
	// ErrOtherStream: what a container writes to the stream that its requests are
	// not on.
	ErrOtherStream = &Skip{Reason: "other_stream", text: "a line of the container's other output"}
)
