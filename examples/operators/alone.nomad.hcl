# No two on one node; the part of a datacenter that is out of reach stays there.
job "alone" {
  federation {
    partition = "hold"
    spillover {
      regions = ["*"]
      after   = "10s"
    }
  }
  constraint {
    operator = "distinct_hosts"
    value    = "true"
  }
  group "alone" {
    count = 3
    migrate {
      max_parallel     = 1
      min_healthy_time = "2s"
      healthy_deadline = "30s"
    }
    task "alone" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
