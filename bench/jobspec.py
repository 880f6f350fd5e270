"""How fast job files are read: `python -m bench.jobspec`.

    validate_cold_s       a fresh process, `serai job validate` of a file of 200 lines, no agent
    parse_200_lines_ms    the same file again in one process: text to a canonical, checked job
    files_per_s           the files of tests/jobspec/files, one after another, in one process

Each is the median of its samples. The last line is one JSON object with the figures. A
reduced run (`--reduced`) says so and exits 3: its figures are no claim.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core.jobspec import canonicalize, parse_job, validate
from sim.lastline import last_line

FULL = {"cold": 15, "warm": 200, "rounds": 20}
REDUCED = {"cold": 2, "warm": 10, "rounds": 1}
LINES = 200
FILES = Path(__file__).resolve().parents[1] / "tests" / "jobspec" / "files"
NO_AGENT = "http://127.0.0.1:1"  # nobody listens: the file is checked without one


def job_text() -> str:
    """Return a job file of LINES lines: groups with a network, a service and a template."""
    head = ['variable "image" { default = "web:1" }', 'job "bench" {', '  datacenters = ["dc*"]']
    group = """
  group "g{n}" {{
    count = 2 + {n}
    network {{
      port "http" {{ to = 8080 }}
    }}
    service {{
      name     = "web-{n}"
      port     = "http"
      provider = "nomad"
      tags     = [for t in ["a", "b"] : "${{t}}-{n}"]
      check {{
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "2s"
      }}
    }}
    task "t" {{
      driver = "docker"
      config {{
        image = var.image
        ports = ["http"]
      }}
      env {{
        NODE = "${{node.unique.name}}"
      }}
      template {{
        destination = "local/x"
        data        = <<EOF
port={{{{ env "NOMAD_PORT_http" }}}}
EOF
      }}
      resources {{
        cpu    = 100
        memory = 64
      }}
    }}
  }}""".strip("\n").splitlines()
    lines, number = head, 0
    while len(lines) + len(group) < LINES:
        lines += [line.format(n=number) for line in group]
        number += 1
    return "\n".join([*lines, *["  # filled up"] * (LINES - len(lines) - 1), "}", ""])


def cold_s(path: str, samples: int) -> float:
    environment = {**os.environ, "NOMAD_ADDR": NO_AGENT, "SERAI_ADDR": NO_AGENT}
    took = []
    for _ in range(samples):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-P", "-m", "core.cli.main", "job", "validate", path],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def read(text: str) -> None:
    errors = validate(canonicalize(parse_job(text, filename="bench").job, region="eu"))
    if errors not in ([], ["Missing job task groups"]):
        raise SystemExit(f"a file of the bench is no good job: {errors}")


def warm_s(text: str, samples: int) -> float:
    took = []
    for _ in range(samples):
        began = time.perf_counter()
        read(text)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reduced", action="store_true", help="a short run that proves nothing")
    reduced = parser.parse_args().reduced
    sizes = REDUCED if reduced else FULL
    text = job_text()
    texts = [path.read_text(encoding="utf-8") for path in sorted(FILES.glob("*.nomad.*"))]
    with tempfile.TemporaryDirectory(prefix="serai-bench-") as folder:
        path = os.path.join(folder, "bench.nomad.hcl")
        Path(path).write_text(text, encoding="utf-8")
        validate_cold_s = cold_s(path, sizes["cold"])
    read(text)  # the first parse loads the tables
    rounds = []
    for _ in range(sizes["rounds"]):
        began = time.perf_counter()
        for one in texts:
            read(one)
        rounds.append(time.perf_counter() - began)
    figures = {
        "validate_cold_s": round(validate_cold_s, 3),
        "parse_200_lines_ms": round(warm_s(text, sizes["warm"]) * 1e3, 2),
        "files_per_s": round(len(texts) / statistics.median(rounds), 1),
    }
    for name, value in figures.items():
        print(f"{name:20} {value}")
    counts = {**sizes, "lines": LINES, "files": len(texts)}
    print(last_line(figures, sizes=counts, samples=sum(sizes.values()), is_reduced=reduced))
    return 3 if reduced else 0


if __name__ == "__main__":
    sys.exit(main())
