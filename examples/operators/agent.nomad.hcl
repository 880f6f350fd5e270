# One on every node.
job "agent" {
  type = "system"
  group "agent" {
    task "agent" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
