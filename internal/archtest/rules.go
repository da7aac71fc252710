package archtest

// module is the path all packages of ours begin with.
const module = "github.com/denywatch/denywatch"

// topLevel is what may lie at the root of the repository. Names are
// path.Match patterns.
var topLevel = []string{
	"cmd", "ingest", "parsers", "detector", "baseline", "alerts", "configs", "internal",
	"go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
	".ci", ".editorconfig", ".golangci.yml", ".git*",
	"bin", "dist", "coverage.out", "*.test", "*.prof", // built here, ignored by git
}

const topLevelWhy = "newcomers find their way by these folders; everything shared goes to internal, deploy files to configs/deploy, notes beside the code they explain"

// Package patterns: "x" is that package, "x/..." also those below it, "..." all.

// nouns are what the whole program talks about.
var nouns = []string{"internal/event", "internal/incident", "internal/marker"}

// tools know nothing of the product and import nothing of it.
var tools = []string{"internal/crash", "internal/secret", "internal/wire"}

type importRule struct {
	pkg string
	may []string
	why string
}

// importRules say what each package may import of ours. The first row whose
// pattern fits decides; a package without a row is an error, so that whoever
// adds one decides where it stands. Test files are free: they may drive one
// stage with another.
var importRules = []importRule{
	{
		"cmd/...", list("internal/app/...", "configs", "internal/client", nouns, tools),
		"main holds flags and signals only; what it starts is built in internal/app, where tests reach it without a binary",
	},
	{
		"internal/app/...", list("..."),
		"internal/app is the one place where the stages meet",
	},
	{
		"configs/...", list("configs/...", "ingest/...", "parsers/...", "detector/...", "baseline", "alerts/...", "internal/route", "internal/geo", "internal/access", "internal/replica", "internal/web", nouns, tools),
		"a package owns its own settings and configs composes them",
	},
	{
		"ingest/...", list("ingest/...", nouns, tools),
		"a source delivers lines and does not know what they mean, so it serves every format",
	},
	{
		"parsers/...", list("parsers/...", "internal/event", tools),
		"a parser is a function of the line, so it serves every source",
	},
	{
		"baseline/...", list("baseline/...", tools),
		"the statistics are pure, so that they can be tested against numbers alone",
	},
	{
		"detector/...", list("detector/...", "baseline/...", "internal/tally", "internal/access", "internal/seen", "internal/route/slug", nouns, tools),
		"the detector judges tallies: live, replayed and received over the network are one path to it",
	},
	{
		"alerts/routing", list("alerts/...", "internal/access", nouns, tools),
		"who is told depends on the incident and the configuration alone; patterns of routes are those of the access rules",
	},
	{
		"alerts/...", list("alerts/...", nouns, tools),
		"a sink sees incidents and nothing of how they were found",
	},

	{"internal/event", list(nouns), "nouns are leaves: everything may import them, so they import nothing"},
	{"internal/incident", list(nouns), "nouns are leaves: everything may import them, so they import nothing"},
	{"internal/marker", list(nouns), "nouns are leaves: everything may import them, so they import nothing"},
	{"internal/crash", nil, "tools know nothing of the product"},
	{"internal/secret", nil, "tools know nothing of the product"},
	{"internal/wire", nil, "tools know nothing of the product"},

	{
		"internal/seen", list(tools),
		"a memory of keys knows nothing of what they stand for",
	},
	{
		"internal/route/slug", list("internal/route", nouns, tools),
		"what is learned of routes has the detector as its single writer",
	},
	{
		"internal/route", list(nouns, tools),
		"normalising is a function of the event and the configuration, in any stage",
	},
	{
		"internal/geo", list(nouns, tools),
		"normalising is a function of the event and the configuration, in any stage",
	},
	{
		"internal/access", list(nouns, tools),
		"the access model is a function of the event and the configuration, in any stage",
	},
	{
		"internal/tally", list("ingest", nouns, tools),
		"a tally is the seam between collector and detector: it knows positions and events, and neither stage",
	},
	{
		"internal/collect", list("ingest", "parsers", "internal/tally", "internal/route", "internal/geo", "internal/access", "internal/state", nouns, tools),
		"the collector turns lines into tallies and knows no concrete source and no judge",
	},
	{
		"internal/state", list(tools),
		"state keeps bytes for every stage and understands none of them",
	},
	{
		"internal/replica", list("ingest/kafka", "internal/state", tools),
		"a replica keeps the store's changes in a topic and understands none of them",
	},
	{
		"internal/sim", list(nouns),
		"the simulator is judge of the others, so it shares nothing with them but words",
	},
	{
		"internal/sim/gen", list("internal/sim"),
		"a developer's tool that only writes the simulator's lines to a file",
	},
	{
		"internal/sim/bench", list("internal/sim", "detector", "detector/slots", "internal/tally", nouns),
		"a developer's tool that lets the simulator judge the detector, with counts as collectors make them",
	},
	{
		"internal/web/...", list("internal/web/...", "ingest/markers", nouns, tools),
		"pages and API show what internal/app hands them, and take what deployment tools send",
	},
	{
		"internal/client", list(nouns, tools),
		"a client speaks to a daemon of any version over HTTP and shares only words with it",
	},
	{
		"internal/report", list(nouns, tools),
		"a report shows what internal/app hands it",
	},
	{
		"internal/e2e", nil,
		"it holds tests only, and meets the product as its users do",
	},
	{
		"internal/servertest", nil,
		"it starts foreign servers for tests and knows nothing of the product",
	},
	{
		"internal/archtest", nil,
		"the referee plays in no team",
	},
}

// homes are the libraries that only one part of the program may know, so that
// they can be replaced there.
var homes = []struct {
	library string // its path and everything below
	may     []string
	why     string
}{
	{"github.com/nxadm/tail", list("ingest/file"), "it follows live local files only, under conditions that ingest/file keeps"},
	{"github.com/segmentio/kafka-go", list("ingest/kafka", "internal/app/..."), "positions and rebalances need the care of one place"},
	{"github.com/slack-go/slack", list("alerts/slack/..."), "its API breaks often"},
	{"github.com/go-analyze/charts", list("alerts/chart"), "what is drawn is decided in one place"},
	{"github.com/wneessen/go-mail", list("alerts/email"), "what a mail holds and how a server's answers count is decided in one place"},
	{"github.com/nicholas-fedor/shoutrrr", list("alerts/shoutrrr"), "its errors hold addresses with tokens"},
	{"go.etcd.io/bbolt", list("internal/state"), "one durable cut means one owner of the file"},
	{"go.yaml.in/yaml/v4", list("configs/..."), "other packages get typed settings"},
	{"github.com/alecthomas/kong", list("cmd/...", "internal/app/..."), "libraries have no flags"},
	{"github.com/schollz/progressbar/v3", list("cmd/...", "internal/app/..."), "only the outermost layer draws on a terminal"},
}

// bans are identifiers that only some packages may use.
var bans = []struct {
	pkg   string
	names []string
	may   []string
	why   string
}{
	{
		"os", []string{"Exit"}, list("cmd/...", "internal/sim/gen", "internal/sim/bench"),
		"whoever ends the process skips everybody's clean-up; return an error",
	},
	{
		"log", []string{"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln"}, nil,
		"whoever ends the process skips everybody's clean-up; return an error",
	},
	{
		"net/http", []string{"DefaultServeMux", "Handle", "HandleFunc", "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS"}, nil,
		"the default mux is shared with every library and these servers have no timeouts; use an http.Server with its own handler",
	},
	{
		"net/http", []string{"DefaultClient", "Get", "Head", "Post", "PostForm"}, nil,
		"the default client waits for ever; take a client with a timeout as an argument",
	},
	{
		"time", []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"},
		list("cmd/...", "internal/app/...", "ingest/...", "alerts/...", "internal/collect", "internal/state", "internal/replica", "internal/web/...", "internal/client", "internal/servertest"),
		"what is counted and judged depends on event time alone, given as an argument: live and replay are one path",
	},
}

const initWhy = "registration is explicit, in internal/app: init hides order and state"

// list flattens names and lists of names.
func list(parts ...any) []string {
	var out []string
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			out = append(out, p)
		case []string:
			out = append(out, p...)
		}
	}
	return out
}
