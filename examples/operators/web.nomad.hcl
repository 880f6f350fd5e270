# A service with all that a rollout has: canaries, checks, auto-revert, ports, a sidecar.
variable "version" {
  type    = string
  default = "1"
}
variable "exit_code" {
  type    = number
  default = 0
}
variable "run_time" {
  type    = string
  default = "24h"
}
variable "canaries" {
  type    = number
  default = 1
}
variable "auto_promote" {
  type    = bool
  default = false
}
job "web" {
  meta {
    version = var.version
  }
  update {
    max_parallel      = 2
    canary            = var.canaries
    auto_promote      = var.auto_promote
    auto_revert       = true
    min_healthy_time  = "3s"
    healthy_deadline  = "40s"
    progress_deadline = "80s"
  }
  spread {
    attribute = "${meta.rack}"
    weight    = 60
    target "r1" {
      percent = 70
    }
  }
  affinity {
    attribute = "${node.class}"
    value     = "large"
    weight    = 30
  }
  group "web" {
    count = 4
    network {
      port "http" {}
    }
    disconnect {
      lost_after = "60s"
      replace    = true
    }
    restart {
      attempts = 1
      interval = "1m"
      delay    = "2s"
      mode     = "fail"
    }
    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "1m"
      unlimited      = true
    }
    scaling {
      min = 1
      max = 9
    }
    service {
      name     = "web"
      port     = "http"
      provider = "nomad"
      tags     = ["v${var.version}"]
      check {
        type     = "http"
        path     = "/"
        interval = "5s"
        timeout  = "2s"
      }
    }
    task "init" {
      lifecycle {
        hook = "prestart"
      }
      driver = "raw_exec"
      config {
        command = "true"
      }
      env {
        SIM_RUN_TIME = "1s"
      }
    }
    task "proxy" {
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
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
    task "server" {
      driver         = "raw_exec"
      kill_timeout   = "3s"
      shutdown_delay = "1s"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
      env {
        VERSION       = var.version
        SIM_RUN_TIME  = var.run_time
        SIM_EXIT_CODE = var.exit_code
      }
      resources {
        cpu    = 400
        memory = 256
      }
    }
    task "farewell" {
      lifecycle {
        hook = "poststop"
      }
      driver = "raw_exec"
      config {
        command = "true"
      }
      env {
        SIM_RUN_TIME = "1s"
      }
    }
  }
}
