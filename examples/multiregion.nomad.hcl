# One copy in each region, one region after the other. All become successful together; a
# region that fails keeps those after it from changing.
#
#   serai dev -regions eu,us,asia -servers 1 -clients 1 -detach
#   serai job plan examples/multiregion.nomad.hcl
#   serai job run examples/multiregion.nomad.hcl
#   serai job status shop
#   serai job stop -global shop
variable "release" {
  type        = string
  default     = "1"
  description = "Another one is rolled out region by region."
}

job "shop" {
  type = "service"

  multiregion {
    strategy {
      max_parallel = 1
      on_failure   = ""
    }

    region "eu" {
      count = 2

      meta {
        tier = "first"
      }
    }

    region "us" {
      count = 1
    }

    region "asia" {
      count = 1
    }
  }

  update {
    max_parallel     = 1
    min_healthy_time = "1s"
    healthy_deadline = "30s"
    auto_revert      = true
  }

  group "shop" {
    # Each region says how many.
    count = 0

    task "shop" {
      driver = "raw_exec"

      config {
        command = "sleep"
        args    = ["86400"]
      }

      env {
        RELEASE = var.release
        TIER    = "${NOMAD_META_tier}"
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
