job "legacy" {
  datacenters = ["dc1"]
  meta = {
    team = "ops"
  }

  task "solo" {
    driver = "raw_exec"
    config {
      command = "sleep"
      args    = [60, "s"]
    }
    env {
      A = 1
      B = true
      C = 1.5
      D = "x"
    }
    resources {
      cpu  = 20
      disk = 150
      iops = 1
      network {
        mbits = 10
        port "web" {}
        port "admin" {
          static = 9090
        }
      }
    }
  }

  group "old" {
    stop_after_client_disconnect = "1h"
    max_client_disconnect        = "2h"
    prevent_reschedule_on_lost   = true
    task "t" {
      driver = "java"
      config {
        jar_path    = "local/app.jar"
        jvm_options = ["-Xmx512m", "-Xms256m"]
      }
      template {
        source          = "local/in.tpl"
        destination     = "local/out"
        left_delimiter  = "[["
        right_delimiter = "]]"
        once            = true
        uid             = 1000
        gid             = 1000
        vault_grace     = "15s"
        wait {
          min = "2s"
          max = "60s"
        }
        change_mode = "script"
        change_script {
          command       = "/bin/reload"
          args          = ["now"]
          timeout       = "20s"
          fail_on_error = true
        }
      }
    }
  }
}
