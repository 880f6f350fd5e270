# A small service, of which there are many.
job "instance" {
  group "app" {
    count = 1
    task "server" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }
  }
}
