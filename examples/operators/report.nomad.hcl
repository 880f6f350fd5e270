# Every minute, never two at once.
job "report" {
  type = "batch"
  periodic {
    crons            = ["* * * * *"]
    prohibit_overlap = true
  }
  group "report" {
    task "report" {
      driver = "raw_exec"
      config {
        command = "true"
      }
      env {
        SIM_RUN_TIME = "10s..90s"
      }
    }
  }
}
