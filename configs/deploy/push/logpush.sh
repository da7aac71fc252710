#!/bin/sh
# Makes a Cloudflare Logpush job that sends a zone's requests to denywatch:
#
#   sources:
#     - name: edge
#       format: cloudflare
#       lateness: 5m
#       push: { tokens: [{ name: logpush, token: "${PUSH_TOKEN}" }] }
#
# Needs CF_API_TOKEN (permission Logs: Edit), CF_ZONE (the zone's id) and PUSH_TOKEN
# (letters and digits, as openssl rand -hex 24 makes them) in the environment.
# Cloudflare takes HTTPS with a certificate of a public authority only, and sends
# every header_NAME of the destination as a header. Before it makes the job it sends
# a file of its own, which denywatch answers and does not count. For firewall events
# make a second job with the dataset firewall_events, and a second source for it.
set -eu
curl -sS --fail-with-body "https://api.cloudflare.com/client/v4/zones/$CF_ZONE/logpush/jobs" \
  -H "Authorization: Bearer $CF_API_TOKEN" -H "Content-Type: application/json" -d @- <<JSON
{
  "name": "denywatch",
  "dataset": "http_requests",
  "destination_conf": "https://logs.example.com/v1/ingest/edge?header_Authorization=Bearer%20$PUSH_TOKEN",
  "output_options": {
    "output_type": "ndjson",
    "timestamp_format": "rfc3339",
    "field_names": [
      "EdgeStartTimestamp", "RayID", "ClientIP", "ClientCountry", "ClientRequestHost", "ClientRequestMethod",
      "ClientRequestURI", "ClientRequestUserAgent", "ClientRequestSource", "EdgeResponseStatus", "OriginResponseStatus",
      "CacheCacheStatus", "EdgePathingOp", "EdgePathingSrc", "EdgePathingStatus",
      "SecurityAction", "SecurityActions", "SecurityRuleID", "SecurityRuleIDs", "SecuritySources"
    ]
  },
  "max_upload_interval_seconds": 30,
  "max_upload_bytes": 5000000,
  "enabled": true
}
JSON
