package parsers

import (
	"strings"
	"sync"
)

// fold makes the spellings of one name equal: lower case, without '_' and '-'
// ("requestUri", "request_uri" and "Request-URI" are one name). Dots stay.
func fold(s string) string { return string(appendFolded(nil, []byte(s))) }

func appendFolded(dst, s []byte) []byte {
	for _, c := range s {
		switch {
		case c == '_' || c == '-':
		case c >= 'A' && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// recognised lists, per field and best first, the names under which logs carry
// it: the Elastic Common Schema, the OpenTelemetry semantic conventions (current
// and old), and what the loggers of common frameworks write (pino, bunyan, zap,
// Spring, Rails' lograge, Serilog, django-structlog, Traefik, Caddy, nginx with
// a JSON log_format). Names are folded; a dot is a nested object or a dot in the
// key. Names of one line have the same rank: of them the last in a line wins.
//
// Names that look right and are not are left out on purpose: cloud.account.id is
// the operator's own account, message and error.message are free text with
// personal data, enduser.scope and scopes are OAuth grants beside real roles and
// come last.
var recognised = map[field][]string{
	fieldTime: {
		"msec timeunixnano",
		"@timestamp timestamp timeiso8601 @t starttimeutc startutc eventtime",
		"time ts datetime date timelocal",
		"starttime event.created asctime datetime.date timegenerated",
		"startedat requesttime requesttimeepoch",
	},
	fieldService: {"service.name servicename resource.service.name resource.attributes.service.name", "service", "dd.service"},
	fieldHost: {
		"url.domain httphost http.host request.host requesthost vhost virtualhost",
		"host server.address req.headers.host request.headers.host",
		"servername domain cshost http.urldetails.host",
	},
	fieldMethod: {
		"http.request.method http.method requestmethod req.method request.method httpmethod httprequest.requestmethod httprequest.method",
		"method verb csmethod",
	},
	fieldPath: {
		"requesturi req.originalurl originalurl url.original http.target",
		"url.path requestpath req.url req.path request.uri request.url request.path httprequest.requesturl httprequest.requestpath httprequest.path requesteduri req.requesturi",
		"uri path uripath csuristem protopayload.resource",
		"url http.url http.path url.full httpurl httppath httprequest.url req.requesturl",
	},
	fieldRoute: {
		"http.route httproute",
		"route routepattern routetemplate req.route.path request.route route.path url.template pathtemplate",
		"resourcepath",
	},
	fieldStatus: {
		"http.response.statuscode downstreamstatus",
		"statuscode res.statuscode response.statuscode http.statuscode httpstatuscode httprequest.status httpresponse.status resp.statuscode",
		"responsestatus responsecode response.status http.status httpstatus res.status responsestatuscode",
		"status",
		"response scstatus",
		"code",
	},
	fieldUpstream: {"upstreamstatus upstream.status serverstatus originstatus upstreamstatuscode upstreamresponsestatus"},
	fieldClient: {
		"client.ip client.address http.clientip",
		"clientip remoteaddr remoteip request.clientip request.remoteip req.ip request.ip clientaddr clientaddress httprequest.remoteip remoteipaddress",
		"ip source.ip sourceip remoteaddress req.remoteaddress clienthost source.address request.remoteaddr",
		"network.peer.address network.client.ip remotehost realip peerip ipaddress req.remotehost cip",
		"client srcip",
		"src",
	},
	fieldForwarded: {
		"xforwardedfor req.headers.xforwardedfor request.headers.xforwardedfor headers.xforwardedfor httpxforwardedfor http.xforwardedfor",
		"fwd forwardedfor xff",
	},
	fieldUser: {
		"user.id enduser.id usr.id req.user.id",
		"userid uid accountuserid currentuserid",
		"user username user.name usr.name enduser.name",
		"sub principal subject",
		"consumer.id consumer.username",
		"remoteuser clientusername csusername",
	},
	fieldAccount: {
		"organization.id account.id tenant.id org.id customer.id company.id user.organization.id user.account.id",
		"accountid tenantid orgid organizationid organisationid customerid companyid user.accountid user.orgid user.tenantid",
		"account tenant customer organization.name tenant.name account.name",
		"organization organisation org workspaceid workspace.id",
		"workspace",
	},
	fieldRole: {
		"user.roles user.role usr.roles usr.role",
		"role roles userrole userroles req.user.role req.user.roles",
		"enduser.role authorities user.authorities",
		"enduser.scope scope scopes user.scope",
	},
	fieldPlan: {
		"plan plan.name planname user.plan account.plan organization.plan tenant.plan customer.plan labels.plan",
		"plan.id planid tier account.tier user.tier subscription.plan pricingplan subscriptionplan accountplan",
		"subscription labels.tier",
	},
	fieldGeo: {
		"client.geo.countryisocode geo.countryisocode geo.country.isocode client.geo.country.isocode",
		"source.geo.countryisocode user.geo.countryisocode geoip.countryisocode geoip.countrycode2 geoip.countrycode geo.countrycode geoipcountrycode geoip2datacountrycode geoip2countrycode",
		"geo.country countrycode cfipcountry clientcountry xcountrycode countryisocode client.country",
		"country geocountry geoipcountry",
	},
	fieldFlags: {
		"flags featureflags user.flags labels.flags",
		"featureflag.key feature.flags flags.enabled",
		"features enabledfeatures experiments",
	},
	fieldVersion: {
		"service.version serviceversion labels.version app.version appversion",
		"releaseversion buildversion build.version labels.release",
		"deployment.version release",
	},
	fieldRequestID: {
		"http.request.id requestid httprequestid",
		"rid reqid xrequestid req.id request.id request.requestid httprequest.requestid trackingreference",
		"correlationid xcorrelationid",
		"trace.id traceid logging.googleapis.com/trace",
		"transaction.id",
	},
	fieldCause: {
		"denyreason denialreason deniedreason deny.reason denial.reason",
		"reason event.reason reasoncode deniedby",
		"policy policy.name policyname policyid",
		"error.type error.code errortype errorcode",
		"exception exception.type exceptionclass",
		"error",
	},
	fieldRequest:   {"request requestline", "requestedurl req"},
	fieldUserAgent: {"useragent.original httpuseragent useragent http.useragent req.headers.useragent request.headers.useragent requestuseragent httprequest.useragent req.useragent", "ua", "agent"},
}

// claimedNames are users that only the client claimed: HTTP Basic names, which
// servers log even when the password was wrong.
var claimedNames = map[string]bool{"remoteuser": true, "clientusername": true, "csusername": true}

// serverUsers are more such names, in the JSON that a web server's log_format or
// LogFormat writes: whoever wrote it gave them to $remote_user or %u.
var serverUsers = map[string]bool{"user": true, "username": true, "user.name": true}

// containers are objects that loggers put the fields of a request into; a name
// inside counts as the name itself, a little less than one outside.
var containers = []string{
	"attributes", "fields", "context", "ctx", "extra", "data", "payload", "jsonpayload", "meta", "properties", "state",
	"span", "proxy", "protopayload",
}

// identityField finds which of the fields that only custom headers and
// variables carry is meant by a name ("X-User-Role", "upstream_http_x_plan").
func identityField(name string) field {
	name = fold(name)
	if f := identityNames()[name]; f != fieldNone {
		return f
	}
	return identityNames()[strings.TrimPrefix(name, "x")]
}

// identityNames are the recognised names of those fields, folded. The table is
// made once and only read.
var identityNames = sync.OnceValue(func() map[string]field {
	m := make(map[string]field)
	for _, f := range []field{fieldRequestID, fieldRoute, fieldUser, fieldAccount, fieldRole, fieldPlan, fieldGeo, fieldFlags, fieldCause} {
		for _, names := range recognised[f] {
			for name := range strings.FieldsSeq(names) {
				if !strings.Contains(name, ".") && !claimedNames[name] {
					m[name] = f
				}
			}
		}
	}
	// Too common under other meanings to trust in a header or a label.
	for _, name := range []string{"sub", "subject", "scope", "exception", "reason", "response", "error"} {
		delete(m, name)
	}
	return m
})
