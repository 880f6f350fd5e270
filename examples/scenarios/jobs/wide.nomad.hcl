# A service that is spread over all regions. While a region is out of reach, what it held runs
# once more elsewhere; when it is back, one of the two copies ends.
job "wide" {
  federation {
    partition = "surge"
    spread {
      attribute = "region"
    }
    spillover {
      regions = ["*"]
      after   = "30s"
    }
  }
  group "web" {
    count = 10
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
