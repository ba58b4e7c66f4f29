"""Stands where `k2 run …` stands: a workload of thirty lines that does what its configuration file says, for the executor's tests."""

import http.server
import json
import os
import pathlib
import signal
import sys
import time

config = json.loads(pathlib.Path(os.environ["K2_CONFIG_FILE"]).read_text())
state = pathlib.Path(os.environ["K2_DATA_DIR"])
(state / "env.json").write_text(json.dumps(dict(os.environ)))
runs = state / "runs"
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
print("run", len(runs.read_text()), sys.argv[1:], flush=True)  # noqa: T201
if "exit" in config and len(runs.read_text()) <= config.get("times", 1000):
    print("giving up: " + config.get("why", ""), flush=True)  # noqa: T201
    sys.exit(config["exit"])
if config.get("once") or (sys.argv[1:] == ["run", "load"] and "feed" in config):
    sys.exit(0)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        broken = (state / "broken").exists()
        well = not broken if self.path == "/health" else not broken and not config.get("never_ready")
        self.send_response(200 if well else 503)
        self.end_headers()
        told = {"ready": well, "reason": "running" if well else "waiting for Kafka"}
        warned = (state / "warned").exists()
        self.wfile.write(json.dumps(told | ({"warning": "many dead letters"} if warned else {})).encode())

    def log_message(self, *args):
        pass


def stop(*_):
    time.sleep(config.get("stop_seconds", 0))
    (state / "stopped").write_text(str(time.time()))
    os._exit(0)


signal.signal(signal.SIGTERM, stop)
port = int(os.environ.get("K2_HTTP_PORT") or os.environ["K2_METRICS_PORT"])
http.server.HTTPServer((os.environ["K2_HTTP_HOST"], port), Handler).serve_forever()
