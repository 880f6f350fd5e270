job "postgres" {
  type      = "service"
  namespace = "data"
  node_pool = "storage"

  vault {
    policies = ["postgres-read"]
    role     = "pg"
  }

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }
  constraint {
    attribute = "${attr.nomad.version}"
    operator  = "semver"
    value     = ">= 1.6.0"
  }
  constraint {
    attribute = "${meta.disk}"
    regexp    = "ssd|nvme"
  }
  constraint {
    distinct_hosts = true
  }
  constraint {
    distinct_property = "${meta.rack}"
    value             = "2"
  }
  affinity {
    attribute = "${node.class}"
    value     = "large"
    weight    = -30
  }
  spread {
    attribute = "${node.datacenter}"
    weight    = 100
    target "dc1" {
      percent = 70
    }
    target "dc2" { percent = 30 }
  }

  group "db" {
    volume "pgdata" {
      type   = "host"
      source = "pg"
      sticky = true
    }

    disconnect {
      lost_after = "6h"
      replace    = false
      reconcile  = "keep_original"
    }

    task "init" {
      driver = "docker"
      user   = "root"
      lifecycle {
        hook = "prestart"
      }
      config {
        image   = "busybox:1.36"
        command = "sh"
        args    = ["-c", "chown -R 999:999 /data"]
      }
      volume_mount {
        volume           = "pgdata"
        destination      = "/data"
        propagation_mode = "private"
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }

    task "postgres" {
      driver = "docker"
      leader = true

      config {
        image    = "postgres:16"
        ports    = ["pg"]
        shm_size = 268435456
        ulimit {
          nofile = "65536:65536"
        }
        sysctl = {
          "net.core.somaxconn" = "16384"
        }
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/pg.env"
        change_mode = "signal"
        change_signal = "sighup"
        splay       = "1m"
        data        = <<-EOT
          {{ with secret "database/creds/pg" }}
          POSTGRES_USER={{ .Data.username }}
          POSTGRES_PASSWORD={{ .Data.password | toJSON }}
          {{ end }}
        EOT
      }

      vault {
        role        = "pg-own"
        change_mode = "noop"
        env         = false
      }

      volume_mount {
        volume      = "pgdata"
        destination = "/var/lib/postgresql/data"
      }

      kill_timeout = "2m"
      kill_signal  = "SIGINT"
    }
  }
}
