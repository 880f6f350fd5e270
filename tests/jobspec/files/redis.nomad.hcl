job "redis" {
  datacenters = ["*"]

  group "cache" {
    count = 1

    network {
      port "db" {
        to = 6379
      }
    }

    volume "data" {
      type            = "csi"
      source          = "redis-data"
      read_only       = false
      attachment_mode = "file-system"
      access_mode     = "single-node-writer"
      per_alloc       = true

      mount_options {
        fs_type     = "ext4"
        mount_flags = ["noatime"]
      }
    }

    restart {
      attempts = 10
      interval = "5m"
      delay    = "25s"
      mode     = "delay"
    }

    ephemeral_disk {
      sticky  = true
      migrate = true
      size    = 500
    }

    task "redis" {
      driver = "docker"

      config {
        image          = "redis:7"
        ports          = ["db"]
        auth_soft_fail = true
        args           = ["redis-server", "--requirepass", "${NOMAD_META_password}"]

        mount {
          type     = "tmpfs"
          target   = "/run"
          readonly = false
          tmpfs_options {
            size = 1000000
          }
        }
        mount {
          type   = "bind"
          source = "local"
          target = "/config"
        }
        labels {
          team = "storage"
        }
      }

      meta {
        password = "none"
      }

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

      identity {
        env  = true
        file = true
      }

      resources {
        cpu        = 500
        memory     = 256
        memory_max = 512
      }

      service {
        name     = "redis-cache"
        tags     = ["global", "cache"]
        port     = "db"
        provider = "nomad"

        check {
          name     = "alive"
          type     = "tcp"
          interval = "10s"
          timeout  = "2s"
          check_restart {
            limit = 3
            grace = "90s"
          }
        }
      }
    }
  }
}
