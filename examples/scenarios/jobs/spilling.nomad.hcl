# A service that other regions take in when its own has no room, and that may run once more
# while a datacenter of it is out of reach.
variable "regions" {
  type    = list(string)
  default = ["*"]
}

job "spilling" {
  federation {
    partition = "surge"
    spillover {
      regions = var.regions
      after   = "30s"
    }
  }
  group "web" {
    count = 3
    task "server" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
