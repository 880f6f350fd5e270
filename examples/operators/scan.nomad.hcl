# Once on every node.
job "scan" {
  type = "sysbatch"
  group "scan" {
    task "scan" {
      driver = "raw_exec"
      config {
        command = "true"
      }
      env {
        SIM_RUN_TIME = "3s..9s"
      }
    }
  }
}
