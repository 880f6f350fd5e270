job "workload" {
  ui {
    description = "A **workload** with papers"
    link {
      label = "Docs"
      url   = "https://example.com/docs"
    }
    link {
      label = "Code"
      url   = "https://example.com/code"
    }
  }
  group "g" {
    consul {
      namespace = "team-a"
      partition = "p1"
    }
    task "t" {
      driver = "exec2"
      identity {
        env         = true
        change_mode = "restart"
      }
      identity {
        name          = "vault_default"
        aud           = ["vault.io"]
        file          = true
        filepath      = "local/vault.jwt"
        ttl           = "1h30m"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        extra_claims  = ["unique_id"]
      }
      consul {
        cluster = "edge"
      }
      action "migrate" {
        command = "/bin/migrate"
        args    = ["--yes", "${NOMAD_TASK_DIR}"]
      }
      action "noop" {
        command = "true"
      }
      schedule {
        cron {
          start    = "0 8 * * 1-5"
          end      = "18:00"
          timezone = "America/New_York"
        }
      }
      secret "db" {
        provider = "vault"
        path     = "secret/data/db"
        config {
          engine = "kv_v2"
        }
        env {
          USER = "app"
        }
      }
      config {
        command = "/bin/app"
      }
    }
  }
}
