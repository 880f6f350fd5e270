# Work that ends. How long it takes, and how often it fails, the scenario says.
job "batch" {
  type = "batch"
  group "work" {
    count = 1
    task "crunch" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["60"]
      }
      resources {
        cpu    = 500
        memory = 512
      }
      env {
        SIM_RUN_TIME = "60"
      }
    }
  }
}
