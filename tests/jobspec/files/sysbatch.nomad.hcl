job "cleanup" {
  type = "sysbatch"
  periodic {
    cron    = "@daily"
    enabled = false
  }
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "prune" {
      driver = "raw_exec"
      config {
        command = "docker"
        args    = ["system", "prune", "-f"]
      }
    }
  }
}
