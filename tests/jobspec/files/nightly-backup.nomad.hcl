job "backup" {
  datacenters = ["dc1"]
  type        = "batch"

  periodic {
    crons            = ["0 2 * * *", "30 14 * * 1-5"]
    prohibit_overlap = true
    time_zone        = "Europe/Berlin"
  }

  reschedule {
    attempts       = 3
    interval       = "24h"
    delay          = "5s"
    delay_function = "exponential"
    max_delay      = "120s"
    unlimited      = false
  }

  group "backup" {
    max_run_duration = "2h"
    task "dump" {
      driver = "raw_exec"
      config {
        command = "/usr/bin/env"
        args    = ["bash", "${NOMAD_TASK_DIR}/dump.sh"]
      }
      template {
        destination = "local/dump.sh"
        perms       = "755"
        data        = <<EOH
#!/bin/bash
set -euo pipefail
for db in $(psql -lqt | cut -d \| -f 1); do
  echo "$${db}: 100%" >> "$NOMAD_ALLOC_DIR/log"
done
EOH
      }
      artifact {
        source      = "https://example.com/tools.tar.gz"
        destination = "local/tools"
        options {
          checksum = "sha256:abcd"
          archive  = false
        }
        headers = {
          "X-Token" = "t"
        }
      }
      artifact {
        source = "git::https://example.com/scripts.git?ref=main"
        mode   = "dir"
        chown  = true
      }
      restart {
        attempts = 1
      }
    }
  }
}
