job "plugin-ebs" {
  datacenters = ["dc1"]
  type        = "system"
  group "nodes" {
    task "plugin" {
      driver = "docker"
      config {
        image      = "csi-driver:v1"
        args       = ["node", "--endpoint=unix://csi/csi.sock"]
        privileged = true
      }
      csi_plugin {
        id        = "aws-ebs0"
        type      = "node"
        mount_dir = "/csi"
        health_timeout = "1m"
      }
      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
