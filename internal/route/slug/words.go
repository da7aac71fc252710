package slug

import "strings"

// reserved are words that name pages and actions and hardly ever a thing; they
// never collapse.
var reserved = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`
about account accounts actions activate activity add admin all analytics api apply apps archive archives article articles assets auth author authors
backup batch billing blog bulk cancel cart categories category checkout clone collection collections comment comments compare config confirm contact
copy count create css current customers dashboard default delete details disable discover docs documentation download downloads draft drafts edit embed
enable events explore export exports faq favicon.ico favorites features feed feeds feedback file files filter filters forgot forgot-password
graphql groups health healthz help history home icons images img import imports inbox index info invite invitations invoices issues items jobs join js
latest legal list live login logout manage manifest.json me media members messages metrics modules my new news newsletter notifications oauth orders
page pages password payment payments plans popular preferences preview pricing print privacy product products profile projects public publish query
random readyz recent register releases remove render reports reset restore results robots.txt roles rss rss.xml sale save search security self send
sessions settings setup share shop signin sign-in sign-out sign-up signout signup sitemap sitemap.xml static stats status store stories submit
subscribe subscriptions summary support tag tags team teams terms top topics transactions trending unsubscribe update upload uploads user
users validate verify version view webhook webhooks wp-admin wp-content wp-includes wp-json wishlist`) {
		m[w] = true
	}
	return m
}()

// probes are beginnings of segments that nobody asks for but scanners, as long
// as they never succeed.
var probes = strings.Fields(`wp- wordpress xmlrpc phpmyadmin pma myadmin mysqladmin adminer phpinfo .env .git .svn .hg .aws .ssh .ds_store .vscode .htaccess .htpasswd .bash_history
cgi-bin boaform hnap1 gponform solr actuator jenkins manager struts eval-stdin phpunit shell c99 r57 webshell owa autodiscover ecp vtigercrm
setup.php install.php config.php config.json backup dump.sql db.sql database.sql wlwmanifest server-status server-info telescope _ignition
console invoker jmx-console web-inf etc passwd win.ini boot.ini proc sdk remote geoserver portal luci goform setup.cgi nmaplowercheck administrator ftpsync sftp-config login.action`)

// probed reports whether a route is one that scanners try.
func probed(route string) bool {
	found := false
	segments(route, func(seg string) bool {
		seg = strings.ToLower(seg)
		for _, p := range probes {
			if strings.HasPrefix(seg, p) {
				found = true
			}
		}
		return !found
	})
	return found || strings.HasSuffix(route, ".php") || strings.HasSuffix(route, ".asp") || strings.HasSuffix(route, ".cgi")
}
