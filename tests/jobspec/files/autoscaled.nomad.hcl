job "web" {
  group "web" {
    scaling {
      enabled = true
      min     = 2
      max     = 20
      policy {
        cooldown            = "1m"
        evaluation_interval = "30s"
        check "cpu" {
          source = "prometheus"
          query  = "avg(cpu)"
          strategy "target-value" {
            target = 70.5
          }
        }
        check "mem" {
          source = "prometheus"
          query  = "avg(mem)"
          strategy "target-value" {
            target = 80
          }
        }
      }
    }
    task "web" {
      driver = "docker"
      config {
        image = "web:1"
      }
      scaling "cpu" {
        enabled = false
        min     = 500
        max     = 2000
        policy {
          cooldown = "5m"
        }
      }
      scaling "mem" {
        max = 4096
      }
    }
  }
}
