job "big" {
  federation {
    spillover {
      regions = ["us"]
    }
  }
  group "db" {
    count = 2
    task "server" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      resources {
        cpu    = 1000
        memory = 8192
      }
    }
  }
}
