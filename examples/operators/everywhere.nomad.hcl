# In two regions, one after the other.
variable "version" {
  type    = string
  default = "1"
}
job "everywhere" {
  multiregion {
    strategy {
      max_parallel = 1
      on_failure   = "fail_all"
    }
    region "eu" {
      datacenters = ["*"]
    }
    region "us" {
      datacenters = ["*"]
    }
  }
  update {
    max_parallel     = 1
    min_healthy_time = "3s"
    healthy_deadline = "40s"
  }
  group "g" {
    count = 1
    task "server" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      env {
        VERSION = var.version
      }
      resources {
        cpu    = 60
        memory = 32
      }
    }
  }
}
