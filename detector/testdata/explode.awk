# A log of 36 hours on standard output, a JSON object a line: two pages that people use,
# and from the 26th hour on N lines more (-v N=10000000), each with a path, a role, a
# country and a person of its own. In the last hour /orders refuses everybody.
function word(i, s) {
	s = ""
	do {
		s = s sprintf("%c", 97 + i % 26)
		i = int(i / 26)
	} while (i > 0)
	return s
}
function line(t, path, role, geo, who, status) {
	printf "{\"time\":\"%s\",\"method\":\"GET\",\"path\":\"%s\",\"status\":%d,\"client_ip\":\"192.0.2.%d\",\"user_id\":\"u%d\",\"role\":\"%s\",\"country\":\"%s\"}\n",
		strftime("%Y-%m-%dT%H:%M:%SZ", t, 1), path, status, who % 250, who, role, geo
}
BEGIN {
	srand(7)
	for (m = 0; m < 36 * 60; m++) {
		t = 1772409600 + 60 * m
		for (k = 0; k < 20; k++)
			line(t, k % 2 ? "/orders" : "/home", "member", "DE", int(rand() * 2000), k % 2 && m >= 35 * 60 ? 403 : 200)
		for (k = 0; m >= 26 * 60 && k < N / 600; k++) {
			n++
			line(t, "/" word(n) "/" word(n * 7), word(n), word(n), n, n % 50 ? 200 : 403)
		}
	}
}
