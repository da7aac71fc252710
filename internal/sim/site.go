package sim

import (
	"fmt"
	"math"
	"strings"
)

// Service is the name of the simulated product.
const Service = "shop"

// Anonymous names visitors without a role in a Scope. Their requests have an
// empty Role.
const Anonymous = "anonymous"

// The roles, by index. Editors may do what members may, owners everything.
const (
	anonymous = iota
	member
	editor
	owner
	nRoles
)

var roleNames = [nRoles]string{"", "member", "editor", "owner"}

// roleShare is each role's share of the requests.
var roleShare = [nRoles]float64{0.42, 0.33, 0.17, 0.08}

// A geo is a country with its share of people and its time zone.
type geo struct {
	code   string
	share  float64
	offset int // minutes east of UTC
}

const nGeos = 8

var geos = [nGeos]geo{
	{"US", 0.34, -360},
	{"DE", 0.18, 60},
	{"GB", 0.13, 0},
	{"FR", 0.10, 60},
	{"IN", 0.09, 330},
	{"BR", 0.07, -180},
	{"CA", 0.05, -300},
	{"JP", 0.04, 540},
}

// access is who should get in.
type access uint8

const (
	public  access = iota // everybody
	private               // who is signed in
	editing               // editors and owners
	manage                // owners
	nAccess
)

// ordinary is the share of requests that are refused while nothing is wrong:
// people follow links that others sent them, bookmarks outlive permissions, and
// some poke around.
var ordinary = [nAccess][nRoles]float64{
	public:  {0.002, 0.001, 0.001, 0.001},
	private: {0.030, 0.004, 0.003, 0.002},
	editing: {0.350, 0.300, 0.004, 0.003},
	manage:  {0.950, 0.900, 0.800, 0.005},
}

// interest is how much a role asks for a kind of route, relative to the
// others: the interface hides most of what a role may not do.
var interest = [nAccess][nRoles]float64{
	public:  {1, 0.15, 0.12, 0.10},
	private: {0.06, 1, 1, 0.8},
	editing: {0.010, 0.08, 1, 0.6},
	manage:  {0.050, 0.040, 0.06, 1},
}

// route is something the product can be asked for.
type route struct {
	method   string
	template string // as denywatch names it: every variable segment is {id}
	host     string
	access   access
	web      bool // answered by the web server alone
	parts    []part
	query    queryKind
}

type part struct {
	literal string
	kind    partKind
}

type partKind uint8

const (
	literalPart partKind = iota
	numberPart
	uuidPart
)

type queryKind uint8

const (
	noQuery queryKind = iota
	pageQuery
	searchQuery
)

const (
	wwwHost = "www.shop.example"
	appHost = "app.shop.example"
	apiHost = "api.shop.example"
)

// siteMap lists the routes, the most popular first. {uuid} is written {id} in
// templates, only its values differ.
const siteMap = `
GET    /projects/{id}               private   page
GET    /                            public    web
GET    /projects                    private   page
GET    /assets/app.js               public    web
GET    /api/v1/tasks/{uuid}         private
GET    /login                       public
GET    /projects/{id}/board         private
GET    /api/v1/projects/{id}        private
POST   /api/v1/events               private
GET    /assets/app.css              public    web
GET    /pricing                     public    web
POST   /projects/{id}/tasks         editing
GET    /inbox                       private   page
GET    /docs/getting-started        public    web
GET    /search                      private   search
PATCH  /api/v1/tasks/{uuid}         editing
GET    /api/v1/projects             private   page
POST   /login                       public
GET    /docs                        public    web
GET    /projects/{id}/activity      private   page
GET    /billing                     private
POST   /projects/{id}/comments      private
GET    /projects/{id}/edit          editing
GET    /signup                      public
GET    /api/v1/me                   private
GET    /projects/{id}/export        editing
GET    /admin/users                 manage    page
GET    /features                    public    web
GET    /projects/{id}/members       private
POST   /projects/{id}/settings      editing
GET    /billing/plans               private
GET    /docs/api                    public    web
GET    /team                        private
POST   /billing/upgrade             private
GET    /api/v1/search               private   search
GET    /admin                       manage
GET    /profile                     private
GET    /docs/roles                  public    web
GET    /billing/invoices            private   page
POST   /signup                      public
POST   /api/v1/projects/{id}/tasks  editing
GET    /reports                     private
GET    /reports/{id}                private
GET    /docs/billing                public    web
GET    /projects/{id}/files         private   page
POST   /projects/{id}/files         editing
GET    /admin/audit                 manage    page
POST   /logout                      private
GET    /billing/invoices/{id}       private
DELETE /api/v1/tasks/{uuid}         editing
GET    /docs/security               public    web
POST   /team/invite                 editing
GET    /api/v1/usage                manage
GET    /docs/webhooks               public    web
POST   /profile                     private
GET    /admin/users/{id}            manage
POST   /admin/users/{id}/role       manage
GET    /about                       public    web
GET    /api/v1/members              private
POST   /api/v1/webhooks             manage
GET    /admin/exports               manage
POST   /billing/card                private
GET    /contact                     public    web
GET    /admin/sso                   manage
`

// newSite compiles the site map.
func newSite() []route {
	var routes []route
	for line := range strings.Lines(siteMap) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		r := newRoute(f[0], f[1])
		switch f[2] {
		case "private":
			r.access = private
		case "editing":
			r.access = editing
		case "manage":
			r.access = manage
		}
		for _, word := range f[3:] {
			switch word {
			case "web":
				r.web, r.host = true, wwwHost
			case "page":
				r.query = pageQuery
			case "search":
				r.query = searchQuery
			}
		}
		routes = append(routes, r)
	}
	return routes
}

func newRoute(method, path string) route {
	r := route{method: method, host: appHost}
	if strings.HasPrefix(path, "/api/") {
		r.host = apiHost
	}
	for path != "" {
		at := strings.IndexByte(path, '{')
		if at < 0 {
			r.parts = append(r.parts, part{literal: path})
			break
		}
		end := strings.IndexByte(path, '}')
		r.parts = append(r.parts, part{literal: path[:at]})
		kind := numberPart
		if path[at:end+1] == "{uuid}" {
			kind = uuidPart
		}
		r.parts = append(r.parts, part{kind: kind})
		path = path[end+1:]
	}
	for _, p := range r.parts {
		if p.kind == literalPart {
			r.template += p.literal
		} else {
			r.template += "{id}"
		}
	}
	return r
}

// Routes lists the templates of the simulated product, the most popular first.
// A template that is served for several methods is listed once: denywatch does
// not tell methods apart.
func Routes() []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range newSite() {
		if !seen[r.template] {
			seen[r.template] = true
			out = append(out, r.template)
		}
	}
	return out
}

// popularity is the share of a role's requests that goes to each route: Zipf
// by rank, weighted with the role's interest.
func popularity(routes []route, role int) []float64 {
	w := make([]float64, len(routes))
	total := 0.0
	for i := range routes {
		w[i] = interest[routes[i].access][role] / float64(i+1)
		total += w[i]
	}
	for i := range w {
		w[i] /= total
	}
	return w
}

const week = 7 * 24 * 60 // minutes

// weekCurve is how busy each minute of the week is in local time, from Monday
// 00:00, with mean 1: two peaks on a working day, a small one in the evening,
// and little on weekends.
func weekCurve() []float64 {
	days := [7]float64{1.05, 1.08, 1.05, 1.0, 0.9, 0.35, 0.3}
	bump := func(h, at, width float64) float64 {
		d := (h - at) / width
		return math.Exp(-d * d)
	}
	curve := make([]float64, week)
	total := 0.0
	for m := range curve {
		h := float64(m%1440) / 60
		curve[m] = days[m/1440] * (0.15 + bump(h, 10.5, 2.2) + 0.95*bump(h, 15, 2.6) + 0.35*bump(h, 20.5, 1.8))
		total += curve[m]
	}
	for m := range curve {
		curve[m] *= week / total
	}
	return curve
}

// person is somebody who uses the product, or a browser nobody signed in with.
type person struct {
	user, account, plan string
	client              string // usual address
	office              string // address shared by the account's office
	agent               string
	role, geo           uint8
}

// people is the population; who[role][geo] lists indices into all, the most
// active first, offices the ranges of all that belong to one account, the largest
// first.
type people struct {
	all      []person
	who      [nRoles][nGeos][]int32
	offices  [][2]int32
	scanners [nGeos][nScanners]string // addresses
}

const (
	nVisitors = 15_000
	nAccounts = 1_500
	nScanners = 256
)

var plans = picks{{"free", 0.5}, {"pro", 0.3}, {"team", 0.15}, {"enterprise", 0.05}}

// picks is a short list of values with their probabilities.
type picks []struct {
	value string
	p     float64
}

func (l picks) draw(r *rng) string {
	x := r.unit()
	for _, e := range l {
		if x -= e.p; x < 0 {
			return e.value
		}
	}
	return l[0].value
}

func newPeople(seed uint64) *people {
	r := rng{seed}
	p := &people{}
	var shares []float64
	for _, g := range geos {
		shares = append(shares, g.share)
	}
	country := newPicker(shares)
	var given [nGeos]int
	v4 := func(g int) string { given[g]++; return clientV4(g, given[g]) }
	v6 := func(g int) string {
		return fmt.Sprintf("2001:db8:%x:%x::%x", g+1, r.below(1<<16), 1+r.below(0xfffe))
	}
	for a := range nAccounts {
		home := country.pick(&r)
		plan, account, office := plans.draw(&r), fmt.Sprintf("a%04d", a+1), v4(home)
		first := int32(len(p.all))
		for i := range 1 + int(226/math.Pow(float64(a+1), 0.6)) {
			x := person{
				user:    fmt.Sprintf("u%05d", len(p.all)+1),
				account: account, plan: plan, office: office,
				agent: browsers.draw(&r), role: member, geo: uint8(home),
			}
			switch {
			case i == 0 || r.chance(0.08):
				x.role = owner
			case r.chance(0.3):
				x.role = editor
			}
			if r.chance(0.15) {
				x.geo = uint8(country.pick(&r))
			}
			switch y := r.unit(); {
			case y < 0.55 && int(x.geo) == home:
				x.client = office
			case y < 0.85:
				x.client = v4(int(x.geo))
			default:
				x.client = v6(int(x.geo))
			}
			p.all = append(p.all, x)
		}
		p.offices = append(p.offices, [2]int32{first, int32(len(p.all))})
	}
	for range nVisitors {
		x := person{geo: uint8(country.pick(&r)), agent: browsers.draw(&r)}
		if r.chance(0.8) {
			x.client = v4(int(x.geo))
		} else {
			x.client = v6(int(x.geo))
		}
		p.all = append(p.all, x)
	}
	for i := range p.all {
		who := &p.who[p.all[i].role][p.all[i].geo]
		*who = append(*who, int32(i))
	}
	for g := range p.scanners {
		for i := range p.scanners[g] {
			p.scanners[g][i] = clientV4(g, 1<<14-nScanners+i)
		}
	}
	for role := range p.who {
		for g := range p.who[role] {
			who := p.who[role][g]
			for i := len(who) - 1; i > 0; i-- {
				j := r.below(i + 1)
				who[i], who[j] = who[j], who[i]
			}
		}
	}
	return p
}

// clientV4 is the n-th address of a country. All lie in 198.18.0.0/15, which
// RFC 2544 sets aside for tests: country g has the g-th /18 of it, and scanners
// the last nScanners addresses of each.
func clientV4(g, n int) string {
	return fmt.Sprintf("198.%d.%d.%d", 18+g/4, g%4*64+n>>8&63, n&255)
}

var browsers = picks{
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", 0.34},
	{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", 0.18},
	{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1", 0.14},
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0", 0.08},
	{"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", 0.05},
	{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36", 0.12},
	{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15", 0.07},
	{"shop-cli/2.4 (build \"stable\")", 0.02},
}

// probes are what scanners ask for. Dot files are refused by the web server,
// the rest is unknown to the product.
var probes = []string{
	"/.env", "/.git/config", "/.aws/credentials", "/wp-login.php", "/xmlrpc.php",
	"/phpmyadmin/index.php", "/server-status", "/actuator/env", "/config.json",
	"/backup.zip", "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", "/cgi-bin/test.cgi",
}

const scannerAgent = "Mozilla/5.0 (compatible; probe/1.0)"
