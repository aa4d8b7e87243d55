"""The configuration of the test nginx: one set of locations, served over HTTP and HTTPS.

Every location below serves the same files ("/objects/..."), each with one peculiarity, so that a test picks a behaviour
by a prefix: "/slow/objects/x" is "/objects/x", slowly.
"""

from __future__ import annotations

from pathlib import Path

# The name of the server that wants a certificate of its clients, on the port of HTTPS.
PRIVATE_NAME = "private.test"
# What signs the URLs of "/signed/".
SIGNING_SECRET = "secret"

STATUSES = (400, 401, 403, 404, 408, 410, 429, 500, 502, 503, 504)

# Response headers of "/declared/": each takes its value, as it stands, from the query argument named here; an argument
# that is missing sends nothing. So a test declares what it likes and nginx need not be reloaded for it.
DECLARED_HEADERS = {
    "goog_hash": "x-goog-hash",
    "goog_hash2": "x-goog-hash",
    "goog_encoding": "x-goog-stored-content-encoding",
    "content_md5": "Content-MD5",
    "repr_digest": "Repr-Digest",
    "digest": "Digest",
    "amz_request_id": "x-amz-request-id",
    "amz_crc32c": "x-amz-checksum-crc32c",
    "amz_sha256": "x-amz-checksum-sha256",
    "amz_type": "x-amz-checksum-type",
    "ms_md5": "x-ms-blob-content-md5",
    "sha256": "x-checksum-sha256",
    "disposition": "Content-Disposition",
}

_LOG_FIELDS = {
    "scheme": "$scheme",
    "port": "$server_port",
    "line": "$request",
    "status": "$status",
    "host": "$http_host",
    "range": "$http_range",
    "if_range": "$http_if_range",
    "accept_encoding": "$http_accept_encoding",
    "authorization": "$http_authorization",
    "cookie": "$http_cookie",
    "user_agent": "$http_user_agent",
    "connection": "$connection",
    "connection_requests": "$connection_requests",
    "body_bytes": "$body_bytes_sent",
    "completed": "$request_completion",
    "ended_s": "$msec",
}


def nginx_config(
    *,
    folder: Path,
    http_port: int,
    https_port: int,
    chain: Path,
    key: Path,
    private_chain: Path,
    private_key: Path,
    authority: Path,
    workers: int,
    log: bool,
    user: str | None,
    tcp_nopush: bool = True,
) -> str:
    """The text of nginx.conf. `folder` holds everything nginx writes, and "files", which it serves.

    `user` is the account of the workers: needed when nginx starts as root, since its default, an unprivileged one,
    may not look into a test's private folder; and refused with a warning when it does not.
    """
    files = f"{folder}/files/"
    log_format = "{" + ",".join(f'"{name}":"{variable}"' for name, variable in _LOG_FIELDS.items()) + "}"
    access_log = f"access_log {folder}/requests.log requests;" if log else "access_log off;"
    declared = "\n".join(f"            add_header {name} $arg_{arg};" for arg, name in DECLARED_HEADERS.items())
    statuses = "\n".join(f"        location = /status/{code} {{ return {code}; }}" for code in STATUSES)
    temp_paths = "\n".join(
        f"    {kind}_temp_path {folder}/temp-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
{f"user {user};" if user else ""}
worker_processes {workers};
pid {folder}/nginx.pid;
daemon off;
events {{ worker_connections 1024; }}
http {{
{temp_paths}
    default_type application/octet-stream;
    log_format requests escape=json '{log_format}';
    {access_log}
    sendfile on;
    tcp_nopush {"on" if tcp_nopush else "off"};
    limit_conn_zone $server_name zone=few:32k;
    limit_req_zone $binary_remote_addr zone=paced:32k rate=3r/s;
    map $arg_rate $slow_rate {{ "" 256k; default $arg_rate; }}
    map $arg_etag $declared_etag {{ "" ""; default '"$arg_etag"'; }}

    server {{
        listen 127.0.0.1:{http_port};
        listen 127.0.0.1:{https_port} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_session_cache shared:tls:1m;

        location / {{ alias {files}; }}
        location /index/ {{ alias {files}; autoindex on; }}
        location /index-json/ {{ alias {files}; autoindex on; autoindex_format json; }}
        location = /ready {{ access_log off; return 204; }}
        location /barrier/ {{ return 204; }}
        location /slow/ {{ alias {files}; limit_rate $slow_rate; }}
        location /few/ {{ alias {files}; limit_rate $slow_rate; limit_conn few 4; limit_conn_status 429; }}
        location /paced/ {{ alias {files}; limit_req zone=paced; limit_req_status 429; }}

        # For as long as the query says, which is signed.
        location /signed/ {{
            alias {files};
            secure_link $arg_md5,$arg_expires;
            secure_link_md5 "$secure_link_expires$uri {SIGNING_SECRET}";
            if ($secure_link != "1") {{ return 403; }}
        }}
        location /no-ranges/ {{ alias {files}; max_ranges 0; }}

        # A body filter that may change the length hides it: HTTP/1.1 then has chunks, or the end of the connection.
        location /chunked/ {{
            alias {files};
            sub_filter_types *;
            sub_filter "a string that no object holds" "";
        }}
        location /close-delimited/ {{
            alias {files};
            chunked_transfer_encoding off;
            sub_filter_types *;
            sub_filter "a string that no object holds" "";
        }}

        # Coded where the request accepts it; and coded whatever the request says, with the length of the coded bytes.
        location /gzip/ {{ alias {files}; gzip on; gzip_types *; gzip_min_length 0; gzip_comp_level 1; }}
        location /gzip-always/ {{ alias {files}; gzip_static always; }}

        location /declared/ {{
            alias {files};
            etag off;
            add_header ETag $declared_etag;
{declared}
        }}

        # The size that nginx remembers here outlives a truncation of the file: it promises a length it cannot send,
        # and closes the connection where the bytes end.
        location /cut/ {{
            alias {files};
            open_file_cache max=1000 inactive=1h;
            open_file_cache_valid 1h;
        }}
        location = /no-reply {{ return 444; }}

        location /redirect/relative/ {{ absolute_redirect off; rewrite ^/redirect/relative(/.*)$ $1 redirect; }}
        location /redirect/absolute/ {{ rewrite ^/redirect/absolute(/.*)$ $scheme://$http_host$1 redirect; }}
        location /redirect/http/ {{ rewrite ^/redirect/http(/.*)$ http://127.0.0.1:{http_port}$1 redirect; }}
        location /redirect/https/ {{ rewrite ^/redirect/https(/.*)$ https://127.0.0.1:{https_port}$1 redirect; }}
        location = /redirect/loop {{ absolute_redirect off; return 302 /redirect/loop; }}

{statuses}
    }}

    # Shows what it serves only to clients with a certificate of the authority.
    server {{
        listen 127.0.0.1:{https_port} ssl;
        server_name {PRIVATE_NAME};
        ssl_certificate {private_chain};
        ssl_certificate_key {private_key};
        ssl_client_certificate {authority};
        ssl_verify_client on;
        location / {{ alias {files}; add_header X-Client $ssl_client_s_dn; }}
    }}
}}
"""
