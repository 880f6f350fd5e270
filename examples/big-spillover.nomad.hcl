# More than one region may hold: what does not fit at home runs in the first of the others
# that has room; `serai job status big` shows how many run where.
#
#   serai job plan examples/big-spillover.nomad.hcl
#   serai job run -var count=40 examples/big-spillover.nomad.hcl
variable "count" {
  type        = number
  default     = 12
  description = "How many instances to run over all datacenters."

  validation {
    condition     = var.count > 0
    error_message = "At least one instance, please."
  }
}

job "big" {
  region      = "eu"
  datacenters = ["*"]
  type        = "service"

  federation {
    partition = "hold"

    spillover {
      regions = ["us", "*"]
    }
  }

  group "work" {
    count = var.count

    task "sleep" {
      driver = "raw_exec"

      config {
        command = "sleep"
        args    = ["86400"]
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
