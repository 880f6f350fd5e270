# Variables, locals, expressions and generated blocks.
#
#   serai job run -var greeting=Hello -var 'names=["Ada","Alan"]' examples/variables.nomad.hcl
variable "greeting" {
  type    = string
  default = "Good day"
}

variable "names" {
  type    = list(string)
  default = ["Ada", "Grace", "Barbara"]
}

variable "ports" {
  type = map(object({
    static = optional(number, 0)
  }))
  default = {
    http  = {}
    admin = {}
  }
}

locals {
  # Locals may stand in any order.
  script = join("\n", [for index, line in local.lines : "echo '${index + 1}: ${line}'"])
  lines  = [for name in sort(var.names) : format("%s, %s.", var.greeting, name)]
}

job "variables" {
  datacenters = ["*"]
  type        = "batch"

  meta {
    people = length(var.names)
    length = length(var.names) > 2 ? "long" : "short"
  }

  group "greet" {
    network {
      dynamic "port" {
        for_each = var.ports
        labels   = [port.key]
        content {
          static = port.value.static
        }
      }
    }

    task "greet" {
      driver = "raw_exec"

      env {
        # Known only where the task runs, so it stays as it is written.
        NODE = "${node.unique.name} in ${node.datacenter}"
        LIST = "%{for name in var.names ~}${name} %{endfor ~}"
      }

      config {
        command = "sh"
        args    = ["-c", local.script]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
