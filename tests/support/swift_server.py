"""A server that speaks as much of OpenStack's Swift and Keystone as duplicity and dupfs ask for.

Tokens end after a number of requests, so that who holds one has to sign in again.
Source: OpenStack, "Object Storage API" and "Identity API" v2 and v3; Swift's tempauth for v1.
"""

import hashlib
import json
import re
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "keeper", "swift-secret-of-tests"
LIFE, PAGE = 400, 40
lock = threading.Lock()
containers, policies, tokens = {}, {}, {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.connection.settimeout(60)

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def sign_in(self, is_right):
        if not is_right:
            return None
        token = "tk%d" % len(tokens)
        tokens[token] = LIFE
        return token

    def handle_any(self):
        content = self.body()
        path, _, query = self.path.partition("?")
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        parts = [urllib.parse.unquote(part) for part in path.lstrip("/").split("/", 3)]
        here = "http://127.0.0.1:%d/v1/AUTH_test" % self.server.server_port
        with lock:
            if path == "/auth/v1.0":
                login = self.headers.get("X-Auth-User"), self.headers.get("X-Auth-Key")
                token = self.sign_in(login == (USER, PASSWORD))
                if token:
                    return self.answer(200, X_Storage_Url=here, X_Auth_Token=token)
                return self.answer(401)
            if path == "/v2.0/tokens":
                auth = json.loads(content)["auth"]
                login = auth["passwordCredentials"]
                token = self.sign_in(
                    (login["username"], login["password"], auth.get("tenantName")) == (USER, PASSWORD, "tenant")
                )
                endpoints = [{"region": "none", "publicURL": "http://127.0.0.1:1/"}, {"region": "one", "publicURL": here}]
                catalog = [{"type": "compute", "endpoints": []}, {"type": "object-store", "endpoints": endpoints}]
                access = {"token": {"id": token, "expires": "2100-01-01T00:00:00Z"}, "serviceCatalog": catalog, "user": {}}
                return self.answer(200 if token else 401, json.dumps({"access": access}).encode())
            if path == "/v3/auth/tokens":
                auth = json.loads(content)["auth"]
                login = auth["identity"]["password"]["user"]
                project = auth["scope"]["project"]
                token = self.sign_in(
                    (login["name"], login["password"], login["domain"]["id"], project["name"])
                    == (USER, PASSWORD, "default", "tenant")
                )
                endpoints = [
                    {"region": "one", "region_id": "one", "interface": "admin", "url": "http://127.0.0.1:1/"},
                    {"region": "one", "region_id": "one", "interface": "public", "url": here},
                ]
                catalog = [{"type": "object-store", "id": "x", "name": "swift", "endpoints": endpoints}]
                body = {"token": {"catalog": catalog, "expires_at": "2100-01-01T00:00:00.0Z", "methods": ["password"]}}
                if token:
                    return self.answer(201, json.dumps(body).encode(), X_Subject_Token=token)
                return self.answer(401)
            token = self.headers.get("X-Auth-Token")
            if tokens.get(token, 0) <= 0 or parts[:2] != ["v1", "AUTH_test"]:
                return self.answer(401)
            tokens[token] -= 1
            if "bulk-delete" in query:
                for line in content.decode().splitlines():
                    name = urllib.parse.unquote(line).lstrip("/").split("/", 1)
                    containers.get(name[0], {}).pop(name[-1], None)
                return self.answer(200, json.dumps({"Response Status": "200 OK", "Errors": []}).encode())
            container = parts[2] if len(parts) > 2 else ""
            name = parts[3] if len(parts) > 3 else ""
            if not container:
                return self.answer(204)
            if not name:
                return self.of_container(container, query)
            return self.of_object(container, name, content)

    def of_container(self, container, query):
        if self.command == "PUT":
            policies.setdefault(container, self.headers.get("X-Storage-Policy", "gold"))
            is_new = containers.setdefault(container, {}) == {}
            return self.answer(201 if is_new else 202)
        if container not in containers:
            return self.answer(404)
        files = containers[container]
        if self.command == "HEAD":
            return self.answer(204, X_Container_Object_Count=str(len(files)), X_Storage_Policy=policies[container])
        found, marker, prefix = [], query.get("marker", ""), query.get("prefix", "")
        for name in sorted(files):
            if not name.startswith(prefix) or name <= marker:
                continue
            rest = name[len(prefix):]
            if query.get("delimiter") and query["delimiter"] in rest:
                folder = prefix + rest.split(query["delimiter"])[0] + query["delimiter"]
                if folder > marker and {"subdir": folder} not in found:
                    found.append({"subdir": folder})
                continue
            bytes_, when, tag = files[name]
            found.append({"name": name, "bytes": len(bytes_), "hash": tag, "content_type": "x/y", "last_modified": when})
            if len(found) >= min(PAGE, int(query.get("limit", PAGE))):
                break
        return self.answer(200, json.dumps(found).encode(), Content_Type="application/json")

    def of_object(self, container, name, content):
        files = containers.get(container)
        if files is None:
            return self.answer(404)
        if self.command == "PUT":
            tag = hashlib.md5(content).hexdigest()
            files[name] = content, time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime()), tag
            return self.answer(201, ETag=tag)
        if name not in files:
            return self.answer(404)
        if self.command == "DELETE":
            del files[name]
            return self.answer(204)
        bytes_, _, tag = files[name]
        headers = {"ETag": tag, "Content_Type": "x/y", "Last_Modified": "Sat, 28 Nov 2026 00:00:00 GMT", "X_Timestamp": "1"}
        if self.command == "HEAD":
            return self.answer(200, length=str(len(bytes_)), **headers)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.answer(200, bytes_, **headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(bytes_)), len(bytes_) - 1)
        if first >= len(bytes_):
            return self.answer(416)
        span = "bytes %d-%d/%d" % (first, last, len(bytes_))
        return self.answer(206, bytes_[first:last + 1], Content_Range=span, **headers)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any


ThreadingHTTPServer.request_queue_size = 64
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
