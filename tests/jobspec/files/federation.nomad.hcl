job "frontend" {
  region = "*"
  federation {
    partition = "surge"
    spillover {
      regions = ["eu", "us-*"]
      after   = "45s"
    }
    spread {
      attribute = "${region}"
      weight    = 60
    }
    affinity {
      attribute = "${region}"
      value     = "eu"
    }
  }
  group "front" {
    count = 6
    task "front" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["infinity"]
      }
    }
  }
}
