"""Ingresses of a class and a namespace become routes of Caddy, by Caddy's own API. Hosts and paths are matched by Caddy."""

import json
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API = "https://kubernetes.default.svc"
LISTEN = ":8080"
PAUSE = 1.0  # seconds between two looks


def items(path):
    """What the API server lists."""
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(
        urllib.request.Request(API + path, headers=headers), context=trusted, timeout=10
    ) as answer:
        return json.load(answer)["items"]


def port(backend, services):
    """The port's number; an Ingress may name it."""
    asked = backend["port"]
    named = {each.get("name"): each["port"] for each in services[backend["name"]]["spec"]["ports"]}
    return asked.get("number") or named[asked["name"]]


def routes(ingresses, services):
    """Caddy's routes, longest path first, as the Ingress's rules of precedence have it; nothing else is answered."""
    found = []
    for ingress in ingresses:
        namespace = ingress["metadata"]["namespace"]
        for rule in ingress["spec"]["rules"]:
            for each in rule["http"]["paths"]:
                service = each["backend"]["service"]
                dial = f"{service['name']}.{namespace}.svc:{port(service, services)}"
                path = each["path"].rstrip("/")
                matched = [each["path"]] if each["pathType"] == "Exact" else [path or "/", f"{path}/*"]
                match = {"path": matched} | ({"host": [rule["host"]]} if "host" in rule else {})
                handle = {"handler": "reverse_proxy", "upstreams": [{"dial": dial}]}
                found.append((len(path), {"match": [match], "handle": [handle], "terminal": True}))
    found.sort(key=lambda each: -each[0])
    return [route for _, route in found] + [{"handle": [{"handler": "static_response", "status_code": 404}]}]


def load(config):
    """Have Caddy change over to a configuration."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request("http://localhost:2019/load", json.dumps(config).encode(), headers)
    urllib.request.urlopen(request, timeout=10).close()


def main():
    namespace, name = (ACCOUNT / "namespace").read_text(), sys.argv[1]
    caddy = subprocess.Popen(["caddy", "run"])
    loaded = None
    while caddy.poll() is None:
        try:
            ingresses = items(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses")
            services = {each["metadata"]["name"]: each for each in items(f"/api/v1/namespaces/{namespace}/services")}
            wanted = routes([each for each in ingresses if each["spec"].get("ingressClassName") == name], services)
            if wanted != loaded:
                server = {"listen": [LISTEN], "automatic_https": {"disable": True}, "routes": wanted}
                load({"apps": {"http": {"servers": {"ingress": server}}}})
                loaded = wanted
        except (OSError, KeyError) as error:  # not there yet, or half of it: look again
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        time.sleep(PAUSE)
    sys.exit(caddy.returncode)


if __name__ == "__main__":
    main()
