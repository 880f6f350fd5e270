job "batch" {
  type = "batch"
  group "work" {
    count = 4
    task "crunch" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["20"]
      }
      env {
        SIM_RUN_TIME = "10..30" # the simulator's word for how long the task runs
      }
    }
  }
}
