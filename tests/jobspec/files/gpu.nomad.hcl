job "train" {
  type        = "batch"
  priority    = 20
  all_at_once = true
  group "train" {
    count = 2
    reschedule {
      attempts = 0
    }
    task "train" {
      driver = "docker"
      config {
        image   = "trainer:latest"
        runtime = "nvidia"
        args    = ["--epochs", "10"]
        devices = [
          {
            host_path          = "/dev/fuse"
            container_path     = "/dev/fuse"
            cgroup_permissions = "rwm"
          },
        ]
      }
      resources {
        cores  = 4
        memory = 16384
        device "nvidia/gpu" {
          count = 2
          constraint {
            attribute = "${device.attr.memory}"
            operator  = ">="
            value     = "8 GiB"
          }
          affinity {
            attribute = "${device.model}"
            value     = "Tesla V100"
            weight    = 75
          }
        }
        numa {
          affinity = "require"
          devices  = ["nvidia/gpu"]
        }
        secrets = 5
      }
    }
  }
}
