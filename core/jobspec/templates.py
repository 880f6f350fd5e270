"""Job files to begin with: what `serai job init -template NAME` writes."""

from typing import Final, NamedTuple


class Template(NamedTuple):
    summary: str
    text: str


_BATCH: Final = """\
job "report" {
  # Runs once, until it is done.
  type = "batch"

  group "report" {
    task "count" {
      driver = "raw_exec"

      config {
        command = "sh"
        args    = ["-c", "echo $REPORT: $(ls / | wc -l) entries"]
      }

      env {
        REPORT = "entries of /"
      }

      resources {
        cpu    = 100 # MHz
        memory = 64  # MB
      }
    }

    # On the same node, when it fails.
    restart {
      attempts = 1
      delay    = "5s"
      mode     = "fail"
    }
  }
}
"""

_SYSTEM: Final = """\
job "watch" {
  # One copy on every node of the datacenters.
  type = "system"

  group "watch" {
    constraint {
      attribute = "${attr.kernel.name}"
      value     = "linux"
    }

    task "load" {
      driver = "raw_exec"

      config {
        command = "sh"
        args    = ["-c", "while true; do cat /proc/loadavg; sleep 10; done"]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
"""

_DOCKER: Final = """\
variable "image" {
  type    = string
  default = "nginx:1.27"
}

job "web" {
  group "web" {
    count = 2

    network {
      port "http" {
        to = 80
      }
    }

    service {
      name     = "web"
      port     = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "nginx" {
      driver = "docker"

      config {
        image = var.image
        ports = ["http"]
      }

      resources {
        cpu    = 200
        memory = 128
      }
    }
  }
}
"""

_FEDERATION: Final = """\
job "anywhere" {
  # "*": any region may be the job's home.
  region = "*"

  federation {
    # Where it may go when its own region has no room, in order.
    spillover {
      regions = ["*"]
    }
  }

  group "work" {
    task "work" {
      driver = "raw_exec"

      config {
        command = "sh"
        args    = ["-c", "echo I run in $NOMAD_DC; exec sleep 3600"]
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
"""

_CONNECT: Final = """\
job "orders" {
  group "stock" {
    network {
      mode = "bridge"
    }

    service {
      name = "stock-api"
      port = "7200"

      connect {
        sidecar_service {}
      }
    }

    task "stock" {
      driver = "docker"

      config {
        image = "registry.example.com/stock:2.4"
      }
    }
  }

  group "shop" {
    network {
      mode = "bridge"

      port "http" {
        static = 7300
        to     = 7300
      }
    }

    service {
      name = "shop"
      port = "http"

      connect {
        sidecar_service {
          proxy {
            upstreams {
              destination_name = "stock-api"
              local_bind_port  = 7201
            }
          }
        }
      }
    }

    task "shop" {
      driver = "docker"

      config {
        image = "registry.example.com/shop:2.4"
      }

      env {
        STOCK_URL = "http://${NOMAD_UPSTREAM_ADDR_stock_api}"
      }
    }
  }
}
"""

# The ones of `-short` and of no flag at all stand in render.py.
TEMPLATES: Final[dict[str, Template]] = {
    "batch": Template("a task that runs until it is done", _BATCH),
    "connect": Template("two groups that speak through Consul's mesh", _CONNECT),
    "docker": Template("containers behind a service, with a variable", _DOCKER),
    "federation": Template("a job that finds a region with room", _FEDERATION),
    "system": Template("a task on every node", _SYSTEM),
}
