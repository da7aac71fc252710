package errorlog

// The causes that an error line can name. They are the whole vocabulary of
// Line.Cause.
const (
	// CauseACL: an access rule of the configuration (nginx allow and deny, Apache
	// Require, Order and Deny), whatever it looked at.
	CauseACL = "acl"
	// CauseAuthBackend: the file of users is missing, which nginx answers with 403.
	CauseAuthBackend = "auth_backend"
	// CauseAuthz: the user is known and not allowed. 401 by default, 403 with
	// AuthzSendForbiddenOnFailure.
	CauseAuthz = "authz"
	// CauseClientCert: no valid client certificate.
	CauseClientCert = "client_cert"
	// CauseConnLimit: too many connections at once (limit_conn).
	CauseConnLimit = "conn_limit"
	// CauseDirectoryIndex: a directory without an index file, and no listing.
	CauseDirectoryIndex = "directory_index"
	// CauseExecForbidden: a script where none may be run.
	CauseExecForbidden = "exec_forbidden"
	// CauseForwardProxyBlocked: ProxyBlock.
	CauseForwardProxyBlocked = "forward_proxy_blocked"
	// CauseFPMLimitExtensions: PHP-FPM's security.limit_extensions.
	CauseFPMLimitExtensions = "fpm_limit_extensions"
	// CauseFSPermission: the server's user may not read the file or search its
	// directory: mode, owner, SELinux, AppArmor.
	CauseFSPermission = "fs_permission"
	// CauseNameTooLong: the path cannot be mapped to a file name.
	CauseNameTooLong = "name_too_long"
	// CauseNotRegularFile: a socket, a device, a pipe.
	CauseNotRegularFile = "not_regular_file"
	// CauseRateLimit: too many requests (limit_req, mod_evasive).
	CauseRateLimit = "rate_limit"
	// CauseRewriteForbidden: RewriteRule in a directory without FollowSymLinks.
	CauseRewriteForbidden = "rewrite_forbidden"
	// CauseSNIRequired: no host name in the TLS handshake.
	CauseSNIRequired = "sni_required"
	// CauseSymlink: a symbolic link that may not be followed, or (Apache) leads
	// nowhere.
	CauseSymlink = "symlink"
	// CauseTLSRequired: no TLS, or not the TLS that the configuration wants.
	CauseTLSRequired = "tls_required"
	// CauseWAF: a rule of ModSecurity.
	CauseWAF = "waf"
)

// names says what the variable part of a message is.
type names uint8

const (
	nothing names = iota
	// aFile fills Line.File, aPath fills Line.Path.
	aFile
	aPath
	// aFileBehind fills Line.File with what follows the tail.
	aFileBehind
	// aRequest is a request line and fills Line.Method and Line.Path.
	aRequest
)

// rule is one message of Apache that explains a denial: text, then something
// variable, then tail. Where tail is empty, the variable part is the rest of the
// message. The text is Apache's own; only the part between is the client's.
type rule struct {
	// num is the AH number; 0 in messages that have none.
	num    uint32
	text   string
	tail   string
	cause  string
	status uint16
	names  names
}

// numbered are the messages of 2.4 (texts as in the binaries of 2.4.71), by
// number. The number decides; the text is compared because some numbers stand
// for several messages.
var numbered = [...]rule{
	{32, "Symbolic link not allowed or link target not accessible: ", "", CauseSymlink, 403, aFile},
	{35, "access to ", " denied (filesystem path '", CauseFSPermission, 403, aPath},
	{36, "access to ", " failed (filesystem path '", CauseNameTooLong, 403, aPath},
	{37, "Symbolic link not allowed or link target not accessible: ", "", CauseSymlink, 403, aFile},
	{38, "Forbidden: ", " doesn't point to a file or directory", CauseNotRegularFile, 403, aFile},
	{127, "Cannot map ", " to file", CauseNameTooLong, 403, aRequest},
	{132, "file permissions deny server access: ", "", CauseFSPermission, 403, aFile},
	{529, "", " pcfg_openfile: unable to check htaccess file", CauseFSPermission, 403, aFile},
	{554, "Access to file ", " denied by server: not a regular file", CauseNotRegularFile, 403, aFile},
	{670, "Options FollowSymLinks and SymLinksIfOwnerMatch are both off", " : ", CauseRewriteForbidden, 403, aFileBehind},
	{898, "Connect to remote machine blocked", " returned by ", CauseForwardProxyBlocked, 403, aFileBehind},
	{916, "connect to remote machine ", " blocked: name ", CauseForwardProxyBlocked, 403, nothing},
	{917, "connect to remote machine ", " blocked: IP ", CauseForwardProxyBlocked, 403, nothing},
	{1234, "file permissions deny server access: ", "", CauseFSPermission, 403, aFile}, // mod_asis
	{1262, "stderr from ", ": Options ExecCGI is off in this directory", CauseExecForbidden, 403, aFile},
	{1263, "stderr from ", ": attempt to invoke directory as script", CauseExecForbidden, 403, aFile},
	{1275, "Can't open directory for index: ", "", CauseFSPermission, 403, aFile},
	{1276, "Cannot serve directory ", ": No matching DirectoryIndex", CauseDirectoryIndex, 403, aFile},
	{1562, "meta file permissions deny server access: ", "", CauseFSPermission, 403, aFile}, // mod_cern_meta
	{1630, "client denied by server configuration: ", "", CauseACL, 403, aFile},             // mod_authz_core
	{1631, "user ", "", CauseAuthz, 0, nothing},                                             // see authzPath
	{1797, "client denied by server configuration: ", "", CauseACL, 403, aFile},             // mod_access_compat
	{2033, "No hostname was provided via SNI", "", CauseSNIRequired, 403, nothing},
	{2219, "access to ", " failed, reason: SSL connection required", CauseTLSRequired, 403, aFile},
	{2229, "access to ", " failed, reason: SSL requirement expression not fulfilled", CauseTLSRequired, 403, aFile},
	{2261, "Re-negotiation handshake failed", "", CauseClientCert, 403, nothing},
	{2262, "Re-negotiation handshake failed", "", CauseClientCert, 403, nothing},
	{2263, "Re-negotiation handshake failed", "", CauseClientCert, 403, nothing},
	{2264, "SSL cipher suite not renegotiated: access to ", " denied using cipher ", CauseTLSRequired, 403, aFile},
	{2265, "access to ", " failed, reason: Failed to execute SSL requirement expression", CauseTLSRequired, 403, aFile},
	{2809, "stderr from ", ": Options ExecCGI is off in this directory", CauseExecForbidden, 403, aFile},
	{2810, "stderr from ", ": attempt to invoke directory as script", CauseExecForbidden, 403, aFile},
	{10158, "cannot perform post-handshake authentication", "", CauseClientCert, 403, nothing},
}

// unnumbered are the messages of 2.0 and 2.2, and those that 2.4 writes without
// a number. "client denied by server configuration: " is not here: the module
// decides (see denied).
var unnumbered = [...]rule{
	{0, "Directory index forbidden by rule: ", "", CauseDirectoryIndex, 403, aFile},
	{0, "Directory index forbidden by Options directive: ", "", CauseDirectoryIndex, 403, aFile},
	{0, "Can't open directory for index: ", "", CauseFSPermission, 403, aFile},
	{0, "file permissions deny server access: ", "", CauseFSPermission, 403, aFile},
	{0, "Symbolic link not allowed or link target not accessible: ", "", CauseSymlink, 403, aFile},
	{0, "Symbolic link not allowed: ", "", CauseSymlink, 403, aFile},
	{0, "Forbidden: ", " doesn't point to a file or directory", CauseNotRegularFile, 403, aFile},
	{0, "Options FollowSymLinks or SymLinksIfOwnerMatch is off which implies that RewriteRule directive is forbidden: ", "", CauseRewriteForbidden, 403, aFile},
	{0, "Options ExecCGI is off in this directory: ", "", CauseExecForbidden, 403, aFile},
	{0, "attempt to invoke directory as script: ", "", CauseExecForbidden, 403, aFile},
	{0, "No hostname was provided via SNI", "", CauseSNIRequired, 403, nothing},
	{0, "Re-negotiation handshake failed", "", CauseClientCert, 403, nothing},
	{0, "access to ", " failed, reason: SSL connection required", CauseTLSRequired, 403, aFile},
	{0, "access to ", " failed, reason: SSL requirement expression not fulfilled", CauseTLSRequired, 403, aFile},
	{0, "access to ", " failed, reason: user ", CauseAuthz, 0, aPath},
	{0, "Authorization of user ", " failed, reason: ", CauseAuthz, 0, nothing},
}

// What PHP-FPM says when it refuses, in the messages of nginx ("FastCGI sent in
// stderr") and of Apache's mod_proxy_fcgi (AH01071).
const (
	fpmScript     = "Access to the script '"
	fpmExtensions = "' has been denied (see security.limit_extensions)"
	fpmOpen       = "Unable to open primary script: "
	fpmDenied     = " (Permission denied)"
)
