# Work with an end: three instances count to ten and are done.
#
#   serai job run examples/batch.nomad.hcl
#   serai alloc logs ALLOC
job "batch" {
  datacenters = ["*"]
  type        = "batch"

  group "count" {
    count = 3

    restart {
      attempts = 1
      delay    = "1s"
    }

    task "count" {
      driver = "raw_exec"

      env {
        LAST = 10
      }

      config {
        command = "sh"
        args = ["-c", <<-EOF
          i=1
          while [ "$i" -le "$LAST" ]; do
            echo "$NOMAD_ALLOC_NAME counts $i"
            i=$((i + 1))
            sleep 0.1
          done
          EOF
        ]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
