job "web" {
  group "web" {
    count = 8
    task "server" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
