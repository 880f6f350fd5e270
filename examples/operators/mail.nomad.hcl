# Dispatched with a payload.
job "mail" {
  type = "batch"
  parameterized {
    payload       = "optional"
    meta_required = ["to"]
  }
  group "mail" {
    max_run_duration = "40s"
    task "mail" {
      driver = "raw_exec"
      config {
        command = "true"
      }
      env {
        SIM_RUN_TIME     = "5s..60s"
        SIM_FAILURE_RATE = "0.3"
      }
    }
  }
}
