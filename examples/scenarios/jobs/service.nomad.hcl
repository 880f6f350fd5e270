# A service as most are: a few instances, replaced one by one.
variable "cpu" {
  type    = number
  default = 500
}

job "service" {
  update {
    max_parallel     = 1
    min_healthy_time = "5s"
  }
  group "web" {
    count = 3
    task "server" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      resources {
        cpu    = var.cpu
        memory = 512
      }
    }
  }
}
