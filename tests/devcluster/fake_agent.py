"""Stands in for `serai agent`: serves what readiness asks for, and runs one "task".

python fake_agent.py agent -config FILE
"""

import json
import re
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from core.devcluster.orphans import die_with_parent


def setting(text: str, name: str) -> str:
    match = re.search(rf"{name}\s*= \"?([^\"\n]+)", text)
    assert match is not None, name
    return match[1]


def main() -> None:
    die_with_parent(signal.SIGTERM)
    text = Path(sys.argv[-1]).read_text()
    if setting(text, "name") == "bad-dc1-server-1":
        sys.exit("the port is taken")
    node = {"Status": "ready", "Datacenter": setting(text, "datacenter")}
    answers = {
        "/v1/status/leader": re.findall(r'rpc  = "(.*)"', text)[0],
        "/v1/nodes": [node, node, node],
        "/v1/regions": ["eu", "us"],
        "/v1/job/serai-dev-probe/plan": {
            "SeraiVerdicts": [
                {"Region": region, "Datacenter": "dc1", "Verdict": "fits"}
                for region in ("eu", "us")
            ]
        },
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path.partition("?")[0]]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *args: object) -> None:
            pass

    task = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Path(sys.argv[-1]).with_name("task.pid").write_text(str(task.pid))
    host, port = setting(text, "bind_addr"), int(setting(text, "http"))
    ThreadingHTTPServer((host, port), Handler).serve_forever()


if __name__ == "__main__":
    main()
