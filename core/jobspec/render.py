"""The texts that `job init` writes."""

from typing import Final

_SHORT: Final = """\
job "example" {
  group "web" {
    network {
      port "http" {}
    }

    service {
      name     = "example"
      port     = "http"
      provider = "nomad"
    }

    task "server" {
      driver = "raw_exec"

      config {
        command = "python3"
        args    = ["-u", "-m", "http.server", "${NOMAD_PORT_http}"]
      }
    }
  }
}
"""

_LONG: Final = """\
# A job is what you want to run. This one serves the files of its task folder.
#
#   serai job plan example.nomad.hcl     what would change, and where it would run
#   serai job run example.nomad.hcl
#   serai job status example
job "example" {
  # The region that owns the job; "*" lets Serai choose one with room.
  # region = "eu"

  # Datacenters of that region, with wildcards. All, unless you say otherwise.
  datacenters = ["*"]

  # service: keeps running. batch: runs until it is done.
  type = "service"

  # Where the job may go when its own region has no room, in order.
  # federation {
  #   spillover {
  #     regions = ["us", "*"]
  #   }
  # }

  # How a new version replaces the running one.
  update {
    max_parallel     = 1
    min_healthy_time = "10s"
    healthy_deadline = "3m"
    auto_revert      = true
  }

  # The tasks of a group always run together on one node.
  group "web" {
    count = 1

    network {
      # A free port of the node; the task finds it in NOMAD_PORT_http.
      port "http" {}
    }

    # On the same node, after a failure. Then the group goes to another node.
    restart {
      attempts = 2
      interval = "30m"
      delay    = "15s"
      mode     = "fail"
    }

    service {
      name     = "example"
      port     = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "server" {
      # raw_exec runs a program as it is; the agent must allow it (it does in -dev).
      driver = "raw_exec"

      config {
        command = "python3"
        args    = ["-u", "-m", "http.server", "${NOMAD_PORT_http}"]
      }

      env {
        GREETING = "hello from ${node.unique.name}"
      }

      # Time between the stop signal and the kill.
      kill_timeout = "5s"

      logs {
        max_files     = 3
        max_file_size = 10 # MB
      }

      resources {
        cpu    = 100 # MHz
        memory = 128 # MB
      }
    }
  }
}
"""


def example_job(*, short: bool = False) -> str:
    """Return a job file that runs anywhere; the long one explains its blocks."""
    return _SHORT if short else _LONG
