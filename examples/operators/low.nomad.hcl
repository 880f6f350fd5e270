# What gives way: it fills what is left, at the lowest priority.
variable "priority" {
  type    = number
  default = 1
}
job "low" {
  priority = var.priority
  constraint {
    operator  = "distinct_property"
    attribute = "${attr.unique.hostname}"
    value     = "3"
  }
  group "low" {
    count = 12
    ephemeral_disk {
      migrate = true
      sticky  = true
    }
    task "low" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      resources {
        cpu    = 1100
        memory = 300
      }
    }
  }
}
