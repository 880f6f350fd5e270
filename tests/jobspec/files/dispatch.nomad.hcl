job "transcode" {
  type = "batch"
  parameterized {
    payload       = "required"
    meta_required = ["input", "profile"]
    meta_optional = ["priority"]
  }
  meta {
    owner = "media"
    tries = 3
    fast  = true
  }
  group "work" {
    count = 1
    task "ffmpeg" {
      driver = "exec"
      dispatch_payload {
        file = "job.json"
      }
      config {
        command = "ffmpeg"
        args = [
          "-i", "${NOMAD_META_INPUT}",
          "-preset", "${NOMAD_META_profile}",
        ]
      }
      env = {
        "X-HEADER.with.dots" = "yes"
        RETRIES              = 3
        RATIO                = 0.5
        DEBUG                = false
      }
      logs {
        max_files     = 5
        max_file_size = 15
      }
      resources {
        cores  = 2
        memory = 2048
      }
    }
  }
}
